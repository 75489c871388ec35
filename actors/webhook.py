"""The webhooks as the queue sees them: a message says that a receiver may be told something, a worker tells it.

How long to wait, for whom, and what comes first is kept in Redis (voicemill/store/store.outbox.py), not in delayed messages:
a receiver that is away costs one try now and then, however many jobs wait for it, and no thread.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import dramatiq
import redis
import structlog
from dramatiq import Message
from dramatiq.middleware import Middleware

from actors import broker, process
from config import settings
from pipeline.webhook.courier import Courier

BROKER = broker.for_process("webhook")
TURN = 2.0  # seconds that a worker goes on for one receiver while others may wait for their turn
LOOK = 10.0  # seconds between looks at whose time has come, where this worker knows of none

_courier: Courier | None = None
log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name="webhook", actor_name="webhook", broker=BROKER, throws=broker.EXPECTED)
def webhook(job_id: str, *, receiver: str | None = None, schema: int = 1) -> None:  # noqa: ARG001 - the messages' version
    """Tell the receiver of this job what waits for it, whichever job's turn it is."""
    receiver = receiver or store.outbox.receiver(job_id)
    if receiver is None:
        log.info("Message dropped: its job expired or was deleted")
        return
    assert _courier is not None, "the worker has a courier before it takes a message"  # noqa: S101
    ends = time.monotonic() + TURN
    while True:
        order = _courier.take(receiver)
        if order.job_id is None:
            CLOCK.expect(order.look_at)
            return
        if order.more:
            wake(receiver, order.job_id)
        structlog.contextvars.bind_contextvars(job=order.job_id)
        CLOCK.expect(_courier.deliver(order.job_id, receiver))
        if BROKER.stopping.is_set() or time.monotonic() > ends:
            wake(receiver, order.job_id)
            return


def wake(receiver: str, job_id: str) -> None:
    """Send word that there may be something to do for a receiver; `job_id` is one of its jobs, for the log."""
    BROKER.enqueue(Message("webhook", "webhook", (job_id,), {"receiver": receiver, "schema": 1}, {}, message_id=job_id))


class Clock(Middleware):
    """Sends word when a receiver's time has come: its next try, the end of a pause, a delivery lost with its worker."""

    def __init__(self) -> None:
        self._next = 0.0  # Unix seconds
        self._changed = threading.Condition()
        self._stopping = False

    def expect(self, at: float | None) -> None:
        """Look no later than `at` Unix seconds."""
        with self._changed:
            if at is not None and at < self._next:
                self._next = at
                self._changed.notify()

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="webhook-clock", daemon=True).start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: Any) -> None:
        """End."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._next = time.time() + LOOK
            try:
                following, found = store.outbox.due()
                for receiver, job_id in found:
                    wake(receiver, job_id)
                self.expect(following)
            except redis.RedisError as error:
                log.warning("Redis cannot be used, waiting", reason=str(error))
            with self._changed:
                while not self._stopping and (left := self._next - time.time()) > 0:
                    self._changed.wait(left)


CLOCK = Clock()

if broker.in_worker():
    BROKER.add_middleware(CLOCK)
    try:
        _courier = Courier(settings.get())
    except settings.SettingsError as error:
        process.give_up("webhook", str(error), process.USAGE)
    if settings.get().webhook_secret is None:
        log.info("No WEBHOOK_SECRET is set: jobs with a callback_url wait for one")
