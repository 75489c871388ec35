"""How the whole system is doing, read from Redis: what `python -m pipeline status` shows."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

from pipeline.enrich import record
from voicemill.store import audio as handoff
from voicemill.store import connection, jobs
from voicemill.store import queue as queues
from voicemill.store import workers as presence
from voicemill.store.jobs import STAGES
from voicemill.store.queue import Depth
from voicemill.store.workers import Worker

MINUTE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long jobs waited for a stage or were at work in it (seconds); None: none has finished lately."""

    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage as it is now."""

    workers: list[Worker]
    depth: Depth
    oldest_waiting: float | None  # seconds
    done_last_minute: int
    wait: Percentiles
    work: Percentiles


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The webhooks as they are now: jobs whose receivers are still to be told something, and who tells them."""

    workers: list[Worker]
    depth: Depth

    @property
    def undelivered(self) -> int:
        """How many jobs have something to tell."""
        return self.depth.waiting + self.depth.in_progress + self.depth.delayed


@dataclass(frozen=True, slots=True)
class Status:
    """The whole system as it is now."""

    stages: dict[str, StageStatus]
    unfinished: int  # jobs
    handoff_bytes: int
    webhooks: Webhooks
    enrichment: dict[str, Any]  # what Gemini was asked for today, and what it cost: pipeline/enrich/record.py

    @property
    def unattended(self) -> list[str]:
        """The stages that no live worker consumes, and `webhook` where there is one to deliver and nobody does."""
        waits = self.webhooks.undelivered and not self.webhooks.workers
        return [name for name, stage in self.stages.items() if not stage.workers] + ([queues.WEBHOOK] if waits else [])

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON has it."""
        return asdict(self) | {"unattended": self.unattended}


def read() -> Status:
    """Return the status."""
    workers, depths = presence.workers(), queues.depths()
    client = connection.client()
    return Status(
        stages={stage: _stage(stage, workers, depths[stage]) for stage in STAGES},
        unfinished=client.zcard(jobs.UNFINISHED_KEY),
        handoff_bytes=handoff.total_bytes(),
        webhooks=Webhooks([worker for worker in workers if queues.WEBHOOK in worker.stages], depths[queues.WEBHOOK]),
        enrichment=record.totals(),
    )


def _stage(stage: str, workers: list[Worker], depth: Depth) -> StageStatus:
    timings = cast("list[bytes]", connection.client().lrange(jobs.timings_key(stage), 0, -1))
    rows = [json.loads(row) for row in timings]
    return StageStatus(
        workers=[worker for worker in workers if stage in worker.stages],
        depth=depth,
        oldest_waiting=queues.oldest(stage),
        done_last_minute=_done_last_minute([finished_at for finished_at, _, _ in rows], time.time()),
        wait=_percentiles([wait for _, wait, _ in rows]),
        work=_percentiles([work for _, _, work in rows]),
    )


def _done_last_minute(ends: list[float], now: float) -> int:
    """Count the last ends; where all that are kept are of this minute, go by their pace."""
    done = sum(ended_at > now - MINUTE for ended_at in ends)
    return done if done < jobs.TIMINGS else round(done * MINUTE / max(1.0, now - min(ends)))


def _percentiles(values: list[float]) -> Percentiles:
    if len(values) < 2:
        return Percentiles(*values * 2) if values else Percentiles(None, None)
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return Percentiles(statistics.median(values), cuts[-1])
