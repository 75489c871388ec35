"""How many jobs each stage finished lately, for the charts of the overview: counted from the stages' timings."""

from __future__ import annotations

import time
from dataclasses import dataclass

from voicemill.lifecycle import STAGES
from voicemill.store.jobs import TIMINGS, Jobs

SPAN = 3600.0  # seconds that a chart covers
BINS = 60  # bars of a chart, one a minute


@dataclass(frozen=True, slots=True)
class Rate:
    """What a stage finished in the last hour.

    Only the timings of its last jobs are kept. If they reach back less than an hour, `since` is how far (seconds), and
    `an_hour` extrapolates them.
    """

    jobs: int
    since: float
    an_hour: int
    bins: tuple[int, ...]  # jobs per minute, the oldest first


def read(jobs: Jobs) -> dict[str, Rate]:
    """Return the rate of each stage."""
    now, timings = time.time(), jobs.timings(*STAGES)
    return {
        stage: of([finished_at for finished_at, _, _ in rows], now) for stage, rows in zip(STAGES, timings, strict=True)
    }


def of(ends: list[float], now: float) -> Rate:
    """Return the rate of a stage.

    Args:
        ends: when its jobs finished (Unix seconds), the last `TIMINGS` at most.
        now: Unix seconds.
    """
    ages = [max(0.0, now - end) for end in ends if now - end < SPAN]
    complete = len(ages) < TIMINGS
    since = SPAN if complete else max(1.0, *ages)
    bins = [0] * BINS
    for age in ages:
        bins[BINS - 1 - int(age * BINS / SPAN)] += 1
    return Rate(len(ages), since, round(len(ages) * SPAN / since), tuple(bins))
