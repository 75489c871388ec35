"""How much each stage got through lately, for the little charts of the live page: counted from the stages' timings."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import cast

from voicemill.lifecycle import STAGES
from voicemill.store import keys
from voicemill.store.jobs import TIMINGS

SPAN = 3600.0  # seconds that are looked back on
BINS = 60  # bars of a chart: a minute each


@dataclass(frozen=True, slots=True)
class Rate:
    """What a stage finished in the last hour.

    `jobs` counts them; where the stage was so fast that its timings reach back less than an hour, `since` says how far
    (seconds), and `an_hour` is what that comes to. `bins` are jobs a minute, the oldest first.
    """

    jobs: int
    since: float
    an_hour: int
    bins: tuple[int, ...]


def read() -> dict[str, Rate]:
    """Return the rate of each stage."""
    with store.redis.pipeline(transaction=False) as pipe:
        for stage in STAGES:
            pipe.lrange(keys.timings(stage), 0, -1)
        lists = cast("list[list[bytes]]", pipe.execute())
    now = time.time()
    return {stage: of([json.loads(row)[0] for row in rows], now) for stage, rows in zip(STAGES, lists, strict=True)}


def of(ends: list[float], now: float) -> Rate:
    """Return the rate that comes of the times at which jobs were finished.

    Args:
        ends: Unix seconds, the last `TIMINGS` ones at most.
        now: Unix seconds.
    """
    ages = [max(0.0, now - end) for end in ends if now - end < SPAN]
    complete = len(ages) < TIMINGS
    since = SPAN if complete else max(1.0, *ages)
    bins = [0] * BINS
    for age in ages:
        bins[BINS - 1 - int(age * BINS / SPAN)] += 1
    return Rate(len(ages), since, round(len(ages) * SPAN / since), tuple(bins))
