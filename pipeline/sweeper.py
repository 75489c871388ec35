"""Ends what nobody will end, so that no job stays in progress for ever.

That are jobs whose message vanished from Redis, and those that wait for a summary longer than `ENRICH_DEADLINE`, as all
do where no worker enriches.
"""

from __future__ import annotations

import time
from typing import cast

import structlog

from config import settings
from pipeline.enrich import record
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Failure
from voicemill.lifecycle import STAGES
from voicemill.store import keys

EVERY = 60.0  # seconds between two sweeps, whoever does them
SHARE = 0.05  # of all time that sweeping may take, where there is so much that it takes long
AFTER = 300.0  # seconds without a change after which a job is looked for
PAGE = 500  # jobs whose records are read in one round trip
BUDGET = 30.0  # seconds of one sweep; what is left over comes first in the next one, since it changed longest ago
AWAITING_SUMMARY = (b"transcribed", b"enriching")  # statuses
LOCK = f"{keys.NAMESPACE}:sweeper"

_next = 0.0  # when this process tries to get the lock again (on the monotonic clock)

log = structlog.get_logger(__name__)


def sweep_when_due() -> None:
    """Sweep, where no other worker has done so lately."""
    global _next  # noqa: PLW0603 - one clock a process
    if time.monotonic() < _next:
        return
    _next = time.monotonic() + EVERY
    client = store.redis
    if not client.set(LOCK, "1", nx=True, px=int(EVERY * 1000) - 500):
        return
    began = time.monotonic()
    store.audio.sweep()
    sweep()
    rest = (time.monotonic() - began) / SHARE
    if rest > EVERY:
        client.set(LOCK, "1", px=int(rest * 1000))


def sweep(after: float = AFTER) -> list[str]:
    """End the jobs that have not changed for `after` seconds and have no message any more; return their ids.

    A job always has a message: the next stage's is stored before the last one's is acknowledged. Where it has none,
    Redis evicted it, or somebody flushed the queue; or its message is a dead letter, and the worker that put it there
    died before it could end the job. A message that is in no list and nobody's hands is put back first.
    """
    client = store.redis
    if rescued := store.queues.reclaim():
        log.warning("Messages that no list held are queued again", messages=rescued)
    before = time.time() - after
    still = [name.decode() for name in cast("list[bytes]", client.zrangebyscore(keys.UNFINISHED, 0, before))]
    # Twice, since a message that moves from one queue to another while we look can be missed once.
    gone = set(still) and set(still) - store.queues.job_ids()
    gone = gone and gone - store.queues.job_ids()
    killed = store.queues.killed() if gone else {}
    deadline = time.monotonic() + BUDGET
    waiting = [job_id for job_id in still if job_id not in gone]
    for start in range(0, len(waiting), PAGE):
        if time.monotonic() > deadline:
            break
        _postpone(waiting[start : start + PAGE])
    lost = []
    for job_id in still:
        if time.monotonic() > deadline:
            break
        if job_id in gone and _end_lost(job_id, before, killed.get(job_id)):
            lost.append(job_id)
    return lost


def _end_lost(job_id: str, before: float, killed_in: str | None) -> bool:
    """Fail a job that has no message any more; return False if it changed after `before` (Unix seconds)."""
    client = store.redis
    try:
        job = store.jobs.get(job_id)
    except UnknownJob:
        client.zrem(keys.UNFINISHED, job_id)
        return False
    changed = client.zscore(keys.UNFINISHED, job_id)
    if changed is None or changed > before:
        return False
    stage = next((name for name in STAGES if job.stages[name].finished_at is None), STAGES[-1])
    error = JobError(ErrorCode.LOST, f"the job's message for {stage} is in no queue any more")
    if killed_in == stage:
        error = JobError(ErrorCode.WORKER_KILLED, "worker after worker died while it worked on it")
    if not store.jobs.fail(job_id, stage, error):
        return False
    log.error("Job failed", job=job_id, stage=stage, code=error.code)
    store.audio.delete(job_id)
    return True


def _postpone(page: list[str]) -> None:
    """Check jobs that still have a message again after a while, and end those whose summary is overdue."""
    client = store.redis
    with client.pipeline(transaction=False) as pipe:
        for job_id in page:
            pipe.hmget(keys.record(job_id), "status", "enrich.queued_at")
        found = cast("list[tuple[bytes | None, bytes | None]]", pipe.execute())
    for job_id, (status, queued_at) in zip(page, found, strict=True):
        if status in AWAITING_SUMMARY and queued_at is not None:
            _end_overdue(job_id, float(queued_at))
    client.zadd(keys.UNFINISHED, dict.fromkeys(page, time.time()), xx=True)


def _end_overdue(job_id: str, queued_at: float) -> None:
    """End a job whose summary is overdue; an enrich worker drops its message later."""
    late = record.overdue(queued_at, settings.get().enrich_deadline)
    if late is not None:
        error = JobError(late.code, f"{late.message}, and waits for an enrich worker")
        if store.jobs.finish(job_id, "enrich", {"enrichment_error": Failure.of(error)}):
            log.error("Job ends without a summary", job=job_id, code=error.code)
