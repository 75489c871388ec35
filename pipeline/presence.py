"""Who is there: every worker says so in Redis with each beat, so that a stage that nobody consumes is noticed.

Part of the backend's path: the standard library and redis, nothing else. Entries are written by actors/beat.lua.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, cast

from pipeline import connection, queues
from pipeline.jobs import STAGES

KEY = f"{connection.NAMESPACE}:workers"  # hash: what each worker says of itself, by its Dramatiq broker's id
SILENCE = 15.0  # seconds without a sign of life after which a worker no longer counts; it gives one every 5


@dataclass(frozen=True, slots=True)
class Worker:
    """A live worker process, as it described itself."""

    host: str
    pid: int
    stages: list[str]  # whose messages it takes
    since: float  # Unix seconds
    device: str = ""  # of the transcribe stage: what its models run on
    gpus: list[dict[str, Any]] = field(default_factory=list)  # each with memory, utilisation and temperature

    @property
    def name(self) -> str:
        """As the job record names it."""
        return f"{self.host}:{self.pid}"


def workers() -> list[Worker]:
    """Return the workers that are there."""
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.hgetall(KEY)
        pipe.zrangebyscore(queues.HEARTBEATS_KEY, (time.time() - SILENCE) * 1000, "+inf")
        entries, alive = cast("tuple[dict[bytes, bytes], list[bytes]]", pipe.execute())
    found = [Worker(**json.loads(text)) for broker, text in entries.items() if broker in set(alive)]
    return sorted(found, key=lambda worker: (worker.stages, worker.name))


def missing() -> list[str]:
    """Return the stages that nobody consumes."""
    present = {stage for worker in workers() for stage in worker.stages}
    return [stage for stage in STAGES if stage not in present]
