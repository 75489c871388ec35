"""Delivers webhooks one at a time, and decides what follows: the next one, another attempt, or the end."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

import structlog

from config.settings import Settings, SettingsError
from pipeline.webhook import event as events
from pipeline.webhook import sender
from pipeline.webhook.sender import Answer
from voicemill import webhooks
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Failure, Job
from voicemill.store import Store
from voicemill.store.outbox import Delivery, Notification, Order, Verdict

GRACE = 15.0  # seconds beyond a request's time limit after which its delivery counts as lost with its worker
SKIP_AFTER = 5  # attempts at an event that the receiver answers with an error, if a later event says more
LONGEST_PAUSE = 600.0  # seconds that a receiver is left alone after failures: an attempt costs little
LONGEST_RETRY_AFTER = 86400.0  # seconds that a receiver may ask to be left alone
SLOW = 1.0  # seconds from which a receiver counts as slow
LIFE = 0.95  # share of RESULT_TTL after which deliveries end, so that the record still shows it
UNSIGNED = "WEBHOOK_SECRET is not set for the webhook workers"

log = structlog.get_logger(__name__)


class Deliverer:
    """Delivers the events in the outbox.

    Args:
        settings: secrets, and how long and how often deliveries are attempted.
        store: whose outbox it is.

    Raises:
        SettingsError: WEBHOOK_SECRET is not a secret.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._keys = secrets(settings)
        self._backoff = [float(word) for word in settings.webhook_backoff.split()]
        self._patience = min(settings.webhook_give_up, settings.result_ttl * LIFE)

    def take(self, receiver: str) -> Order:
        """Take the receiver's next job."""
        return self._store.outbox.take(receiver, self._settings.webhook_timeout + GRACE)

    def deliver(self, job_id: str, receiver: str) -> float | None:
        """Deliver the first pending event of a job that was taken.

        Returns:
            When to check the receiver again (Unix seconds); None: nothing is pending.
        """
        delivery = self._store.outbox.pending(job_id)
        try:
            job = self._store.jobs.get(job_id)
        except UnknownJob:
            job = None
        if delivery is None or job is None:
            nothing = delivery.pending[0] if delivery else Notification(0, "", 0.0)
            return self._settle(job_id, receiver, nothing, Verdict("skipped"), {})
        first = delivery.pending[0]
        if not events.is_current(job, first):
            log.info("Webhook skipped: the job was retried", notification=f"job.{first.status}")
            return self._settle(job_id, receiver, first, Verdict("skipped"), {})
        if time.time() - delivery.since > self._patience:
            return self._give_up(job, receiver, delivery)
        answer = self.send(delivery.url, events.identity(job, first), events.body(job, first))
        verdict, fields = self._judge(delivery, answer)
        write = log.info if answer.error is None else log.warning
        write(
            f"Webhook {verdict.name}",
            receiver=receiver,
            notification=f"job.{first.status}",
            status=answer.status,
            seconds=round(answer.seconds, 2),
            attempts=delivery.attempts,
            **({} if answer.error is None else {"code": answer.error.code, "reason": answer.error.message}),
        )
        return self._settle(job_id, receiver, first, verdict, fields)

    def send(self, url: str, event_id: str, body: bytes) -> Answer:
        """Sign and POST one event, once."""
        if not self._keys:
            return Answer(0.0, error=JobError(ErrorCode.WEBHOOK_UNSIGNED, UNSIGNED))
        return sender.post(url, body, webhooks.sign(event_id, int(time.time()), body, self._keys), self._settings)

    def _judge(self, delivery: Delivery, answer: Answer) -> tuple[Verdict, dict[str, str]]:
        """Return what becomes of a delivery after this answer, and what the record keeps of it."""
        now = time.time()
        error = answer.error
        fields = {"last_at": str(now), "last_status": json.dumps(answer.status), "last_error": ""}
        if error is None:
            delivered = {"delivered": delivery.pending[0].status, "delivered_at": str(now)}
            return Verdict("delivered", "ok", slow=answer.seconds > SLOW), fields | delivered
        fields["last_error"] = _described(error)
        if not error.code.retryable:
            health = "answered" if answer.status is not None else ""
            return Verdict("stopped", health), fields | {"stopped": _described(error, now)}
        asked = min(LONGEST_RETRY_AFTER, error.retry_after or 0.0)
        superseded = len(delivery.pending) > 1 and answer.health == "answered" and delivery.attempts >= SKIP_AFTER
        if superseded:
            return Verdict("skipped", answer.health), fields
        delay = self._backoff[min(delivery.attempts, len(self._backoff)) - 1] * random.uniform(1, 1.25)  # noqa: S311 - jitter, not a secret
        last = max(now, delivery.since + self._patience)  # the last moment at which an attempt makes sense
        due = min(now + max(delay, asked), last)
        return Verdict("failed", answer.health, due, asked if answer.health == "down" else 0.0), fields

    def _give_up(self, job: Job, receiver: str, delivery: Delivery) -> float | None:
        days = self._patience / 86400
        message = f"not delivered within {days:.3g} days, after {delivery.attempts - 1} attempts"
        error = JobError(ErrorCode.WEBHOOK_GAVE_UP, message)
        log.error("Webhook stopped", receiver=receiver, code=error.code, reason=error.message)
        stopped = {"stopped": _described(error, time.time())}
        return self._settle(job.id, receiver, delivery.pending[0], Verdict("stopped"), stopped)

    def _settle(
        self, job_id: str, receiver: str, notification: Notification, verdict: Verdict, fields: dict[str, str]
    ) -> float | None:
        jitter = random.uniform(1, 1.1)  # noqa: S311 - jitter, not a secret
        pauses = [min(LONGEST_PAUSE, pause) * jitter for pause in self._backoff]
        return self._store.outbox.settle(job_id, receiver, notification, verdict, fields, pauses)


def secrets(settings: Settings) -> list[bytes]:
    """Return the secrets that sign webhooks; none if WEBHOOK_SECRET is not set.

    Raises:
        SettingsError: WEBHOOK_SECRET is not a secret.
    """
    if settings.webhook_secret is None:
        return []
    try:
        return webhooks.secrets(settings.webhook_secret.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"WEBHOOK_SECRET: {error}. `voicemill webhook secret` generates one.") from None


def _described(error: JobError, at: float | None = None) -> str:
    return json.dumps(replace(Failure.of(error), at=at).as_dict())
