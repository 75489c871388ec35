"""Who is there: every worker says so in Redis with each beat, so that a stage that nobody consumes is noticed.

Part of the backend's path: the standard library and redis, nothing else. Entries are written by actors/beat.lua.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, cast

from voicemill.store import connection
from voicemill.store import queue as queues
from voicemill.store.jobs import STAGES

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
    paused: str | None = None  # why it takes no messages for now

    @property
    def name(self) -> str:
        """As the job record names it."""
        return f"{self.host}:{self.pid}"


def workers() -> list[Worker]:
    """Return the workers that are there."""
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.hgetall(KEY)
        pipe.zrange(queues.BEATS_KEY, 0, -1, withscores=True)
        (now, _), entries, beats = cast("tuple[tuple[int, int], dict[bytes, bytes], Any]", pipe.execute())
    alive = {broker for broker, beaten_at in beats if beaten_at > (now - SILENCE) * 1000}
    known = {part.name for part in fields(Worker)}  # a worker of a later version may say more
    said = [json.loads(text) for broker, text in entries.items() if broker in alive]
    found = [Worker(**{name: value for name, value in one.items() if name in known}) for one in said]
    return sorted(found, key=lambda worker: (worker.stages, worker.name))


def missing() -> list[str]:
    """Return the stages that nobody consumes."""
    present = {stage for worker in workers() for stage in worker.stages}
    return [stage for stage in STAGES if stage not in present]
