"""The actor `decode` as a backend sees it: no function behind it, on a broker that connects when a message is sent.

Neither becomes Dramatiq's global broker, and nothing here asks whether it runs in a worker: a backend's own Dramatiq
worker is a backend. The workers of the stages bind the function and their own broker (actors/).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import dramatiq
from dramatiq import Broker, Message
from dramatiq.middleware import Middleware

from voicemill.admission import Sender
from voicemill.config import ClientConfig
from voicemill.errors import JobError, Refused
from voicemill.lifecycle import FIRST
from voicemill.store import Store


class Producer(Broker):
    """A broker that only sends, and only to `decode`: validates the job, writes its record and queues its id.

    Args:
        config: where Redis is. None: where the environment says at the time of use, so that the broker may be made
            before `REDIS_URL` is set.
        middleware: of Dramatiq, for `before_enqueue` and `after_enqueue`.
    """

    def __init__(self, config: ClientConfig | None = None, middleware: Iterable[Middleware] = ()) -> None:
        self._config = config
        self._held: tuple[ClientConfig, Store, Sender] | None = None
        super().__init__(middleware=list(middleware))

    @property
    def store(self) -> Store:
        """The store that this broker sends to. Its connections are made when they are used."""
        return self._current()[1]

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = None
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send a job.

        Args:
            message: to `decode`, with the source and the options of the job.
            delay: milliseconds before it may begin.

        Raises:
            Refused: the source, an option or the state of the system forbids it; nothing was sent.
        """
        self.emit_before("enqueue", message, delay)
        try:
            sender = self._current()[2]
        except JobError as error:  # a variable of the environment is wrong
            raise Refused(error.code, error.message) from None
        sender.send(message.message_id, message.args, message.kwargs, delay=(delay or 0) / 1000)
        self.emit_after("enqueue", message, delay)
        return message

    def _current(self) -> tuple[ClientConfig, Store, Sender]:
        config = self._config or ClientConfig.from_environment()
        if self._held is None or self._held[0] != config:
            store = Store(config)
            self._held = config, store, Sender(store)
        return self._held


def _elsewhere(_source: str, **_options: Any) -> NoReturn:
    """Send a voice message: `decode.send(source, language=…, …)`; voicemill/options.py has the options."""
    raise RuntimeError("decode runs in Voicemill's workers: call decode.send()")


BROKER = Producer()
decode: dramatiq.Actor[..., None] = dramatiq.actor(queue_name=FIRST, actor_name=FIRST, broker=BROKER)(_elsewhere)
