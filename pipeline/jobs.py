"""Deprecated: use `voicemill.Client`. These names stay for one release."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from voicemill.broker import BROKER
from voicemill.errors import UnknownJob
from voicemill.job import Event, Job

__all__ = ["Event", "Job", "UnknownJob", "cancel", "delete", "events", "get", "wait"]

warnings.warn("pipeline.jobs is deprecated: use voicemill.Client", DeprecationWarning, stacklevel=2)


def get(job_id: str) -> Job:
    """Return a job's record, as `Client.get` does."""
    return BROKER.store.jobs.get(job_id)


def wait(job_id: str, timeout: float | None = None, until: str = "done") -> Job:
    """Wait for a job, as `Client.wait` does."""
    return BROKER.store.jobs.wait(job_id, timeout, until)


def events(job_id: str, timeout: float | None = None) -> Iterator[Event]:
    """Yield a job's events, as `Client.events` does."""
    return BROKER.store.jobs.events(job_id, timeout)


def cancel(job_id: str) -> bool:
    """End a job as `cancelled`, as `Client.cancel` does."""
    return BROKER.store.jobs.cancel(job_id)


def delete(job_id: str) -> None:
    """Remove every trace of a job, as `Client.delete` does."""
    BROKER.store.jobs.delete(job_id)
