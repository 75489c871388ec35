"""What a receiver is told: the job's record as it was when it entered a status, whenever the receiver hears of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from voicemill.job import Job
from voicemill.lifecycle import ENDED


def identity(job: Job, event: Event) -> str:
    """Return the id of an event, the same at each attempt."""
    return f"msg_{job.id}_{event.number}"


def current(job: Job, event: Event) -> bool:
    """Tell whether an event is still true: a job that failed may have been tried again since."""
    return job.transcript is not None if event.status not in ENDED else job.status == event.status


def body(job: Job, event: Event) -> bytes:
    """Return the JSON that is POSTed, the same at each attempt."""
    return envelope(f"job.{event.status}", event.at, _record(_as_of(job, event)))


def envelope(kind: str, at: float, data: Any) -> bytes:
    """Return the JSON of an event of this kind, which happened `at` Unix seconds."""
    timestamp = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    message = {"type": kind, "timestamp": timestamp, "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _record(job: Job) -> dict[str, Any]:
    """Return the record without the account of the deliveries themselves."""
    return {name: value for name, value in job.as_dict().items() if name != "webhook"}


def _as_of(job: Job, event: Event) -> Job:
    if event.status in ENDED:
        return job
    enrich = Stage(queued_at=job.stages["enrich"].queued_at)
    return replace(
        job,
        status=event.status,
        finished_at=None,
        stages=job.stages | {"enrich": enrich},
        enrichment=None,
        enrichment_skipped=None,
        enrichment_error=None,
        error=None,
    )
