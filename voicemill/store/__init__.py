"""Everything that Voicemill keeps in one Redis: jobs, audio, queues, workers and pending webhooks.

No other package of the client knows a key, runs a script or encodes a record. A `Store` is passed to whatever needs it;
there is no global one.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from redis import Redis, RedisError

from voicemill.config import ClientConfig
from voicemill.store import connection
from voicemill.store.queue import Queues

if TYPE_CHECKING:
    from voicemill.store.audio import AudioStore
    from voicemill.store.jobs import Jobs
    from voicemill.store.outbox import Outbox
    from voicemill.store.spending import Spending
    from voicemill.store.workers import Workers


__all__ = ["Store"]


class Store:
    """The parts of the store in one Redis, over one client for each process: no connection survives a fork.

    A part is imported on first use, since `import voicemill` has a budget (bench/imports.py).

    Args:
        config: where Redis is, and the limits.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self.queues = Queues(self)
        self._clients: dict[int, Redis] = {}  # by process

    @cached_property
    def jobs(self) -> Jobs:
        """The records of the jobs."""
        from voicemill.store.jobs import Jobs  # noqa: PLC0415

        return Jobs(self)

    @cached_property
    def audio(self) -> AudioStore:
        """The audio between stages, and the uploads."""
        from voicemill.store.audio import AudioStore  # noqa: PLC0415

        return AudioStore(self)

    @cached_property
    def workers(self) -> Workers:
        """The live workers."""
        from voicemill.store.workers import Workers  # noqa: PLC0415

        return Workers(self)

    @cached_property
    def outbox(self) -> Outbox:
        """The pending webhooks."""
        from voicemill.store.outbox import Outbox  # noqa: PLC0415

        return Outbox(self)

    @cached_property
    def spending(self) -> Spending:
        """The costs of enrichment."""
        from voicemill.store.spending import Spending  # noqa: PLC0415

        return Spending(self)

    @property
    def redis(self) -> Redis:
        """This process's client; it is safe to use from any thread.

        Raises:
            JobError: `invalid_settings`: the address is not one of Redis.
        """
        process = os.getpid()
        found = self._clients.get(process)
        if found is None:
            # No lock: a child that is forked while another thread holds it would wait for ever.
            found = self._clients.setdefault(process, connection.connect(self.config))
        return found

    def connect(self, *, socket_timeout: float, retries: int) -> Redis:
        """Return another client, as `connection.connect` does."""
        return connection.connect(self.config, socket_timeout=socket_timeout, retries=retries)

    def refusal(self, error: RedisError) -> str | None:
        """Return why Redis rejects us, or why we do not trust it; None: neither is so."""
        return connection.refusal(error, self.config.address)

    def close(self) -> None:
        """Close this process's connections."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()
