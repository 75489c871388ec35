"""The webhook worker: `dramatiq actors.webhook`. A message says that a receiver may have something pending.

How long to wait, for whom, and what comes first is kept in Redis (voicemill/store/outbox.py), not in delayed messages:
a receiver that is away costs one attempt now and then, however many jobs wait for it, and no thread.
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

from actors import process, worker
from actors.broker import Broker
from pipeline.webhook.delivery import Deliverer
from voicemill.lifecycle import WEBHOOK
from voicemill.store.queue import SCHEMA

TURN = 2.0  # seconds that a worker continues with one receiver while others may wait for their turn
INTERVAL = 10.0  # seconds between checks whose time has come, if this worker knows of none

log = structlog.get_logger(__name__)


class Webhooks(Middleware):
    """Delivers to one receiver after the other, and sends messages for those whose time has come.

    That is the next attempt, the end of a pause, or a delivery lost with its worker.
    """

    def __init__(self, broker: Broker, deliverer: Deliverer) -> None:
        self._broker, self._deliverer, self._outbox = broker, deliverer, broker.store.outbox
        self._next = 0.0  # Unix seconds
        self._changed = threading.Condition()
        self._stopping = False

    def deliver(self, job_id: str, *, receiver: str | None = None, schema: int = 1) -> None:  # noqa: ARG002 - the messages' version
        """Deliver what is pending for the receiver of this job, whichever job's turn it is."""
        receiver = receiver or self._outbox.receiver(job_id)
        if receiver is None:
            log.info("Message dropped: its job expired or was deleted")
            return
        ends = time.monotonic() + TURN
        while True:
            order = self._deliverer.take(receiver)
            if order.job_id is None:
                self._expect(order.check_at)
                return
            if order.more:
                self._wake(receiver, order.job_id)
            structlog.contextvars.bind_contextvars(job=order.job_id)
            self._expect(self._deliverer.deliver(order.job_id, receiver))
            if self._broker.stopping.is_set() or time.monotonic() > ends:
                self._wake(receiver, order.job_id)
                return

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the clock."""
        threading.Thread(target=self._run, name="webhook-clock", daemon=True).start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: Any) -> None:
        """Stop the clock."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _wake(self, receiver: str, job_id: str) -> None:
        """Send a message that there may be something pending; `job_id` is one of the receiver's, for the log."""
        keywords = {"receiver": receiver, "schema": SCHEMA}
        self._broker.enqueue(Message(WEBHOOK, WEBHOOK, (job_id,), keywords, {}, message_id=job_id))

    def _expect(self, at: float | None) -> None:
        """Check no later than `at` (Unix seconds)."""
        with self._changed:
            if at is not None and at < self._next:
                self._next = at
                self._changed.notify()

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._next = time.time() + INTERVAL
            try:
                following, found = self._outbox.due()
                for receiver, job_id in found:
                    self._wake(receiver, job_id)
                self._expect(following)
            except redis.RedisError as error:
                log.warning("Redis cannot be used, waiting", reason=str(error))
            with self._changed:
                while not self._stopping and (left := self._next - time.time()) > 0:
                    self._changed.wait(left)


if worker.is_worker():
    from config.settings import SettingsError

    WORKER = worker.start(WEBHOOK)
    try:
        webhooks = Webhooks(WORKER.broker, Deliverer(WORKER.settings, WORKER.store))
    except SettingsError as error:
        process.give_up(WEBHOOK, str(error), process.USAGE)

    def deliver(job_id: str, **keywords: Any) -> None:
        """Deliver what is pending for the receiver of this job."""
        webhooks.deliver(job_id, **keywords)

    WORKER.broker.add_middleware(webhooks)
    webhook = dramatiq.actor(deliver, **WORKER.options)
    if WORKER.settings.webhook_secret is None:
        log.info("No WEBHOOK_SECRET is set: jobs with a callback_url wait for one")
