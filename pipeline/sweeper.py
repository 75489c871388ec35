"""Ends jobs that nothing else will end, so that no job stays in progress for ever.

Those are jobs whose message vanished from Redis, and those that wait for a summary longer than `ENRICH_DEADLINE`, as
all do if no worker enriches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import structlog

from config.settings import Settings
from pipeline.enrich import memory
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Failure
from voicemill.lifecycle import AWAITING_SUMMARY, LAST, STAGES
from voicemill.store import Store, keys

INTERVAL = 60.0  # seconds between two sweeps, whichever worker does them
SHARE = 0.05  # of all time that sweeping may take if it takes long
AFTER = 300.0  # seconds without a change after which a job is checked
PAGE = 500  # jobs whose records are read in one round trip
BUDGET = 30.0  # seconds of one sweep; what is left over comes first in the next one, since it changed longest ago

log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps the jobs of one store.

    Args:
        store: of the jobs.
        settings: the worker's.
        page: how many jobs are read in one round trip.
        clock: tells how long a sweep takes (seconds).
    """

    def __init__(
        self, store: Store, settings: Settings, *, page: int = PAGE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._settings, self._page, self._clock = store, settings, page, clock
        self._next = 0.0  # when this process tries to get the lock again (on the monotonic clock)

    def sweep_when_due(self) -> None:
        """Sweep if no other worker has done so lately."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + INTERVAL
        client = self._store.redis
        if not client.set(keys.SWEEPER, "1", nx=True, px=int(INTERVAL * 1000) - 500):
            return
        began = self._clock()
        self._store.audio.sweep()
        self._store.jobs.trim()
        self.sweep()
        rest = (self._clock() - began) / SHARE
        if rest > INTERVAL:
            client.set(keys.SWEEPER, "1", px=int(rest * 1000))

    def sweep(self, after: float = AFTER) -> list[str]:
        """End the jobs that have not changed for `after` seconds and have no message any more; return their ids.

        A job always has a message: the next stage's is stored together with the result of the last. If it has none,
        Redis evicted it, or somebody flushed the queue; or its message is a dead letter, and the worker that put it
        there died before it could end the job. An orphaned message, which is in no list and taken by no worker, is
        queued again first.
        """
        store = self._store
        if reclaimed := store.queues.reclaim():
            log.warning("Orphaned messages queued again", messages=reclaimed)
        before = time.time() - after
        found = cast("list[bytes]", store.redis.zrangebyscore(keys.UNFINISHED, 0, before))
        still = [name.decode() for name in found]
        # Twice, since a message that moves from one queue to another meanwhile can be missed once.
        gone = set(still) and set(still) - store.queues.job_ids()
        gone = gone and gone - store.queues.job_ids()
        killed = store.queues.killed() if gone else {}
        deadline = self._clock() + BUDGET
        waiting = [job_id for job_id in still if job_id not in gone]
        for start in range(0, len(waiting), self._page):
            if self._clock() > deadline:
                break
            self._postpone(waiting[start : start + self._page])
        lost = []
        for job_id in still:
            if self._clock() > deadline:
                break
            if job_id in gone and self._end_lost(job_id, before, killed.get(job_id)):
                lost.append(job_id)
        return lost

    def _end_lost(self, job_id: str, before: float, killed_in: str | None) -> bool:
        """Fail a job that has no message any more; return False if it changed after `before` (Unix seconds)."""
        store = self._store
        try:
            job = store.jobs.get(job_id)
        except UnknownJob:
            store.redis.zrem(keys.UNFINISHED, job_id)
            return False
        changed = store.redis.zscore(keys.UNFINISHED, job_id)
        if changed is None or changed > before:
            return False
        stage = next((name for name in STAGES if job.stages[name].finished_at is None), LAST)
        error = JobError(ErrorCode.LOST, f"the job's message for {stage} is in no queue any more")
        if killed_in == stage:
            error = JobError(ErrorCode.WORKER_KILLED, "worker after worker died while it worked on it")
        if not store.jobs.fail(job_id, stage, error):
            return False
        log.error("Job failed", job=job_id, stage=stage, code=error.code)
        store.audio.delete(job_id)
        return True

    def _postpone(self, page: list[str]) -> None:
        """Check jobs that still have a message again after a while, and end those whose summary is overdue."""
        client = self._store.redis
        with client.pipeline(transaction=False) as pipe:
            for job_id in page:
                pipe.hmget(keys.record(job_id), "status", f"{LAST}.queued_at")
            found = cast("list[tuple[bytes | None, bytes | None]]", pipe.execute())
        for job_id, (status, queued_at) in zip(page, found, strict=True):
            if (status or b"").decode() in AWAITING_SUMMARY and queued_at is not None:
                self._end_overdue(job_id, float(queued_at))
        client.zadd(keys.UNFINISHED, dict.fromkeys(page, time.time()), xx=True)

    def _end_overdue(self, job_id: str, queued_at: float) -> None:
        """End a job whose summary is overdue; an enrich worker drops its message later."""
        late = memory.overdue(queued_at, self._settings.enrich_deadline)
        if late is None:
            return
        error = JobError(late.code, f"{late.message}, and waits for an enrich worker")
        if self._store.jobs.finish(job_id, LAST, {"enrichment_error": Failure.of(error).as_dict()}, following=None):
            log.error("Job ended without a summary", job=job_id, code=error.code)
