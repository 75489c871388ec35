"""How the whole system is doing, read from Redis: what `voicemill status` shows."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from voicemill.lifecycle import STAGES, WEBHOOK
from voicemill.store.jobs import TIMINGS
from voicemill.store.queue import Depth
from voicemill.store.workers import Worker

if TYPE_CHECKING:
    from voicemill.store import Store

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
class WebhookStatus:
    """The webhooks as they are now: jobs with pending deliveries, and the workers that deliver them."""

    workers: list[Worker]
    depth: Depth

    @property
    def undelivered(self) -> int:
        """How many jobs have something pending."""
        return self.depth.waiting + self.depth.in_progress + self.depth.delayed


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """The whole system as it is now."""

    stages: dict[str, StageStatus]
    unfinished: int  # jobs
    handoff_bytes: int
    webhooks: WebhookStatus
    enrichment: dict[str, Any]  # what was asked of the provider today, and what it cost: store/spending.py

    @property
    def unattended(self) -> list[str]:
        """The stages that no live worker consumes, and `webhook` if something is pending and nobody delivers it."""
        waits = self.webhooks.undelivered and not self.webhooks.workers
        return [name for name, stage in self.stages.items() if not stage.workers] + ([WEBHOOK] if waits else [])

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON has it."""
        return asdict(self) | {"unattended": self.unattended}


def read(store: Store) -> SystemStatus:
    """Return the status."""
    workers, depths = store.workers.alive(), store.queues.depths()
    timings: dict[str, list[tuple[float, float, float]]] = dict(zip(STAGES, store.jobs.timings(*STAGES), strict=True))

    def of_stage(stage: str) -> StageStatus:
        rows = timings[stage]
        return StageStatus(
            workers=[worker for worker in workers if stage in worker.stages],
            depth=depths[stage],
            oldest_waiting=store.queues.oldest(stage),
            done_last_minute=_done_last_minute([finished_at for finished_at, _, _ in rows], time.time()),
            wait=_percentiles([wait for _, wait, _ in rows]),
            work=_percentiles([work for _, _, work in rows]),
        )

    return SystemStatus(
        stages={stage: of_stage(stage) for stage in STAGES},
        unfinished=store.jobs.unfinished(),
        handoff_bytes=store.audio.total_bytes(),
        webhooks=WebhookStatus([worker for worker in workers if WEBHOOK in worker.stages], depths[WEBHOOK]),
        enrichment=store.spending.totals(),
    )


def _done_last_minute(ends: list[float], now: float) -> int:
    """Count the ends of the last minute; if all that are kept are of this minute, extrapolate their rate."""
    done = sum(ended_at > now - MINUTE for ended_at in ends)
    return done if done < TIMINGS else round(done * MINUTE / max(1.0, now - min(ends)))


def _percentiles(values: list[float]) -> Percentiles:
    if len(values) < 2:
        return Percentiles(*values * 2) if values else Percentiles(None, None)
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return Percentiles(statistics.median(values), cuts[-1])
