"""Which workers are alive: each describes itself in Redis with every heartbeat (actors/heartbeat.lua)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from voicemill.lifecycle import STAGES
from voicemill.store import keys

if TYPE_CHECKING:
    from voicemill.store import Store

SILENCE = 15.0  # seconds without a heartbeat after which a worker no longer counts; it sends one every 5


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
        """Its name in job records."""
        return f"{self.host}:{self.pid}"


class Workers:
    """The workers of one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def alive(self) -> list[Worker]:
        """Return the live workers."""
        with self._store.redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hgetall(keys.WORKERS)
            pipe.zrange(keys.HEARTBEATS, 0, -1, withscores=True)
            (now, _), entries, beats = cast("tuple[tuple[int, int], dict[bytes, bytes], Any]", pipe.execute())
        alive = {broker for broker, beaten_at in beats if beaten_at > (now - SILENCE) * 1000}
        known = {part.name for part in fields(Worker)}  # a worker of a later version may say more
        said = [json.loads(text) for broker, text in entries.items() if broker in alive]
        found = [Worker(**{name: value for name, value in one.items() if name in known}) for one in said]
        return sorted(found, key=lambda worker: (worker.stages, worker.name))

    def missing(self) -> list[str]:
        """Return the stages that no live worker consumes."""
        present = {stage for worker in self.alive() for stage in worker.stages}
        return [stage for stage in STAGES if stage not in present]
