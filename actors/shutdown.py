"""How a worker stops: consumers are woken, running work gets `SHUTDOWN_TIMEOUT`, and little is taken ahead."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from actors import process

DELAYED = 10_000  # messages that a worker holds until their time, some 2 kB each; those beyond are seen late
CHECK = 250  # milliseconds between checks of an idle thread whether it is to stop


class Shutdown(Middleware):
    """Ends the consumers' waits when the worker stops, and bounds how long it drains and how much it takes ahead.

    Args:
        timeout: how long running work may take to end (seconds).
        stopping: is set when the worker begins to stop.
    """

    def __init__(self, timeout: float, stopping: threading.Event) -> None:
        self._timeout, self._stopping = timeout, stopping
        self._consumers: list[Any] = []

    def before_worker_boot(self, _broker: dramatiq.Broker, worker: Any) -> None:
        """Take as many messages as there are threads, for what waits here could be at work elsewhere. Stop quickly."""
        worker.queue_prefetch = worker.worker_threads
        worker.delay_prefetch = max(worker.delay_prefetch, DELAYED)
        worker.worker_timeout = CHECK
        # SHUTDOWN_TIMEOUT rules, and no second number on the command line.
        stop, limit = worker.stop, int(self._timeout * 1000)
        worker.stop = lambda timeout=limit: stop(timeout=limit)  # noqa: ARG005

    def after_consumer_thread_boot(self, _broker: dramatiq.Broker, thread: Any) -> None:
        """Remember whom to wake."""
        self._consumers.append(thread)

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: Any) -> None:
        """Wake all consumers; they fetch nothing any more."""
        process.draining.set()
        self._stopping.set()
        for thread in self._consumers:
            if thread.consumer is not None:
                thread.consumer.interrupt()
