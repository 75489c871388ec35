"""What a receiver is sent: the job's record as it was when it entered a status, whenever the event is delivered."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from voicemill.job import Job, StageTimes
from voicemill.lifecycle import ENDED, LAST
from voicemill.store.outbox import Notification


def identity(job: Job, notification: Notification) -> str:
    """Return the id of an event, the same at each attempt."""
    return f"msg_{job.id}_{notification.number}"


def is_current(job: Job, notification: Notification) -> bool:
    """Return whether an event is still true: a job that failed may have been retried since."""
    if notification.status in ENDED:
        return job.status == notification.status
    return job.transcript is not None


def body(job: Job, notification: Notification) -> bytes:
    """Return the JSON that is POSTed, the same at each attempt."""
    return envelope(f"job.{notification.status}", notification.at, _record(_as_of(job, notification)))


def envelope(kind: str, at: float, data: Any) -> bytes:
    """Return the JSON of an event of this kind, which happened at `at` (Unix seconds)."""
    timestamp = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    message = {"type": kind, "timestamp": timestamp, "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _record(job: Job) -> dict[str, Any]:
    """Return the record without the account of the deliveries themselves."""
    return {name: value for name, value in job.as_dict().items() if name != "webhook"}


def _as_of(job: Job, notification: Notification) -> Job:
    if notification.status in ENDED:
        return job
    last = StageTimes(queued_at=job.stages[LAST].queued_at)
    return replace(
        job,
        status=notification.status,
        finished_at=None,
        stages={**job.stages, LAST: last},
        enrichment=None,
        enrichment_skipped=None,
        enrichment_error=None,
        error=None,
    )
