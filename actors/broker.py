"""Dramatiq's Redis broker as a worker runs it: it waits in Redis instead of polling, and leaves no message behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import redis
from dramatiq.brokers import redis as stock
from dramatiq.common import current_millis
from dramatiq.middleware import Middleware

from actors.consumer import Consumer
from pipeline.stage import RetryLater
from voicemill.errors import JobError
from voicemill.store import Store, keys
from voicemill.store.scripts import Script

if TYPE_CHECKING:
    from pipeline.transcribe import Engine

HEARTBEAT_TIMEOUT = 12_000  # milliseconds without a heartbeat after which a worker's messages are reclaimed
# What an actor `throws`: Dramatiq logs it in a line, and Retries logs what is a bug among it.
EXPECTED = (JobError, RetryLater, redis.RedisError)


class Broker(stock.RedisBroker):
    """A RedisBroker whose consumers wait in Redis for the next message and cost little while idle.

    Args:
        store: of the jobs; its client is the process's own, so that the broker survives a fork.
        middleware: of Dramatiq.
    """

    def __init__(self, store: Store, middleware: Iterable[Middleware] = ()) -> None:
        self.store = store
        self.stopping = threading.Event()
        self.blocking = True  # until a server refuses BLMOVE
        self.may_take: Callable[[str], bool] = lambda _queue: True  # whether messages of a queue may be begun now
        self.device = ""  # what this worker's work runs on, if that is worth showing
        self.engine: Engine | None = None  # of a transcribe worker
        self.gpus: Callable[[], list[dict[str, Any]]] = list  # its GPUs: memory, utilisation, temperature
        self.paused: Callable[[], str | None] = lambda: None  # why this worker takes no messages
        self.held: dict[str, dict[str, float]] = {}  # by queue: Redis's id of each message here, and when it is due
        self.rounds: dict[str, float] = {}  # when each queue was last checked without a failure (monotonic clock)
        self._registered: tuple[Any, dict[str, Any]] = (None, {})
        super().__init__(
            middleware=list(middleware),
            namespace=keys.NAMESPACE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            client=self.client,
        )

    @property
    def client(self) -> redis.Redis:
        """The client of this process."""
        return self.store.redis

    @client.setter
    def client(self, _client: redis.Redis) -> None:
        """Take no other: the base class would keep the one that it was made with."""

    @property
    def scripts(self) -> dict[str, Any]:
        """Dramatiq's Lua scripts, registered with the client of this process."""
        client = self.client
        if self._registered[0] is not client:
            self._registered = client, {name: client.register_script(text) for name, text in stock._scripts.items()}  # noqa: SLF001 - they have no public name
        return self._registered[1]

    @scripts.setter
    def scripts(self, _scripts: dict[str, Any]) -> None:
        """Take no other, for the same reason."""

    @property
    def consumer_class(self) -> type[Consumer]:
        """The consumer that waits in Redis."""
        return Consumer

    def run_script(self, script: Script, *arguments: Any) -> Any:
        """Run a Lua script of ours on this broker's namespace."""
        return script.run(self.client, [self.namespace], *arguments)

    def fetch(self, queue_name: str, most: int, client: redis.Redis) -> list[bytes | None]:
        """Take up to `most` messages by Dramatiq's own script, over a client of the caller's choosing."""
        limits = (self.heartbeat_timeout, self.dead_message_ttl, 0, self._max_unpack_size())
        arguments = ["fetch", current_millis(), queue_name, self.broker_id, *limits, most]
        found = self.scripts["dispatch"](keys=[self.namespace], args=arguments, client=client)
        return cast("list[bytes | None]", found)

    def _should_do_maintenance(self, command: str) -> int:  # noqa: ARG002 - Dramatiq's signature
        """Leave the maintenance to actors/heartbeat.py, which does it by the clock and not by chance."""
        return 0
