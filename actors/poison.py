"""Poison messages: those that were at work when a worker died run one at a time, so that the right one is blamed."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, cast

import dramatiq
import redis
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from actors.retries import patiently
from voicemill.store import Store, keys


class PoisonMessages(Middleware):
    """Lets possible poison messages go one at a time, and notes which is at work."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._alone = threading.Lock()
        self._mine = threading.local()

    def before_process_message(self, _broker: dramatiq.Broker, message: MessageProxy) -> None:
        """Wait for those before this one, and note that it is at work."""
        suspect = cast("str", message.options["redis_message_id"])
        if "~" in suspect:
            self._alone.acquire()
            self._mine.id = suspect
            patiently(lambda: self._store.redis.sadd(keys.BEGUN, suspect))

    def after_process_message(
        self,
        broker: dramatiq.Broker,  # noqa: ARG002 - this and all below are Dramatiq's signature
        message: MessageProxy,  # noqa: ARG002
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """Let the next one go."""
        self._let_go()

    def after_skip_message(self, _broker: dramatiq.Broker, _message: MessageProxy) -> None:
        """Let the next one go."""
        self._let_go()

    def _let_go(self) -> None:
        suspect = getattr(self._mine, "id", None)
        if suspect is not None:
            self._mine.id = None
            self._alone.release()
            with suppress(redis.RedisError):  # it counts as at work until it is acknowledged
                self._store.redis.srem(keys.BEGUN, suspect)
