"""Check whether a worker is alive and whether it can do its work: what /healthz and /readyz answer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import redis

from actors import process

if TYPE_CHECKING:
    from actors.broker import Broker

ANSWER = 1.0  # seconds that Redis may take for a PING
ROUND = 20.0  # seconds within which a consumer checks its queue again; twice the time that it waits in Redis

Conditions = dict[str, str | None]  # by name, the reason why each fails; None: it holds


class Health:
    """The health of one worker.

    Args:
        broker: the worker's.
        stage: the worker's.
    """

    def __init__(self, broker: Broker, stage: str) -> None:
        self.worker: Any = None  # Dramatiq's, once it has started
        self._broker, self._stage = broker, stage
        self._redis: redis.Redis | None = None
        self._asking = threading.Lock()

    def alive(self) -> Conditions:
        """Return whether all threads of the process are alive; while it starts, that holds."""
        if self.worker is None or process.draining.is_set():
            return {"threads": None}
        threads = [*self.worker.workers, *self.worker.consumers.values()]
        dead = sum(not thread.is_alive() for thread in threads)
        return {"threads": f"{dead} of {len(threads)} threads have died" if dead else None}

    def ready(self) -> Conditions:
        """Return whether the worker takes messages and can process them."""
        found: Conditions = {"running": self._running()}
        found |= {"redis": self._answers(), "consuming": self._consuming(), "fit": self._broker.paused()}
        if self._stage == "transcribe":
            found["canary"] = self._canary()
        return found

    def _running(self) -> str | None:
        if process.draining.is_set():
            return "the worker is stopping"
        if self.worker is None:
            return "the worker is starting"
        return self.alive()["threads"]

    def _answers(self) -> str | None:
        with self._asking:
            try:
                if self._redis is None:
                    self._redis = self._broker.store.connect(socket_timeout=ANSWER, retries=0)
                try:
                    self._redis.ping()
                except redis.ConnectionError:
                    self._redis.ping()  # Redis was restarted since the connection was made
            except redis.RedisError as error:
                return f"Redis does not answer: {error}"
        return None

    def _consuming(self) -> str | None:
        if self.worker is None:
            return "the worker is starting"
        now = time.monotonic()
        for queue in self.worker.consumers:
            age = now - self._broker.rounds.get(queue, now)
            if age > ROUND:
                return f"the queue {queue} has not been checked for {age:.0f} s"
        return None

    def _canary(self) -> str | None:
        engine = self._broker.engine
        if engine is None:
            return "the model is being loaded"
        for name, age in engine.proofs.items():
            if age is None:
                return f"slot {name} is being started"
            if age > engine.patience:
                return f"slot {name} has passed no canary and no batch for {age:.0f} s"
        return None if engine.alive else "no slot is left"
