"""Takes one delivery after the other to a receiver, and decides what follows: the next, another try, or the end."""

from __future__ import annotations

import json
import random
import time

import structlog

from config.settings import Settings
from pipeline.webhook import event as events
from pipeline.webhook import sender
from pipeline.webhook.sender import Answer
from voicemill import webhooks as signature
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Failure, Job
from voicemill.store.outbox import Order

GRACE = 15.0  # seconds beyond a request's time limit until its delivery counts as lost with its worker
SKIP_AFTER = 5  # tries of an event that the receiver answers with an error, where a later one says more
LONGEST_PAUSE = 600.0  # seconds that a receiver is left alone after failures: a try costs little, being back counts
LONGEST_WISH = 86400.0  # seconds that a receiver may ask to be left alone
SLOW = 1.0  # seconds from which a receiver counts as slow
LIFE = 0.95  # share of RESULT_TTL after which deliveries end, so that the record still shows it
UNSIGNED = "WEBHOOK_SECRET is not set for the webhook workers"

log = structlog.get_logger(__name__)


class Courier:
    """Delivers what the outbox holds, with the settings' secrets and patience."""

    def __init__(self, settings: Settings) -> None:
        """Read the secrets.

        Raises:
            SettingsError: WEBHOOK_SECRET holds none.
        """
        self._settings = settings
        self._keys = signature.secrets(settings.webhook_secret.get_secret_value()) if settings.webhook_secret else []
        self._backoff = [float(word) for word in settings.webhook_backoff.split()]
        self._patience = min(settings.webhook_give_up, settings.result_ttl * LIFE)

    def take(self, receiver: str) -> Order:
        """Take the receiver's next job."""
        return store.outbox.take(receiver, self._settings.webhook_timeout + GRACE)

    def deliver(self, job_id: str, receiver: str) -> float | None:
        """Tell a receiver the first thing that a job, which was taken, has to tell.

        Returns:
            When to look at the receiver again (Unix seconds); None: it has been told all.
        """
        errand = store.outbox.pending(job_id)
        try:
            job = store.jobs.get(job_id)
        except UnknownJob:
            job = None
        if errand is None or job is None:
            nothing = errand.events[0] if errand else Event(0, "", 0.0)
            return self._settle(job_id, receiver, nothing, Outcome("skipped"), {})
        event = errand.events[0]
        if not events.current(job, event):
            log.info("Webhook skipped: the job was tried again", tells=event.status)
            return self._settle(job_id, receiver, event, Outcome("skipped"), {})
        if time.time() - errand.since > self._patience:
            return self._give_up(job, receiver, errand)
        answer = self.send(errand.url, events.identity(job, event), events.body(job, event))
        outcome, fields = self._judged(errand, answer)
        tell = log.info if answer.error is None else log.warning
        tell(
            f"Webhook {outcome.verdict}",
            receiver=receiver,
            tells=event.status,
            status=answer.status,
            seconds=round(answer.seconds, 2),
            attempts=errand.attempts,
            **({} if answer.error is None else {"code": answer.error.code, "reason": answer.error.message}),
        )
        return self._settle(job_id, receiver, event, outcome, fields)

    def send(self, url: str, event_id: str, body: bytes) -> Answer:
        """Sign and POST one event, once."""
        if not self._keys:
            return Answer(0.0, error=JobError(ErrorCode.WEBHOOK_UNSIGNED, UNSIGNED))
        return sender.post(url, body, signature.headers(event_id, int(time.time()), body, self._keys), self._settings)

    def _judged(self, errand: Errand, answer: Answer) -> tuple[Outcome, dict[str, str]]:
        """Return what becomes of a delivery after this answer, and what the record keeps of it."""
        now = time.time()
        error = answer.error
        fields = {"last_at": str(now), "last_status": json.dumps(answer.status), "last_error": ""}
        if error is None:
            told = {"delivered": errand.events[0].status, "delivered_at": str(now)}
            return Outcome("delivered", "ok", slow=answer.seconds > SLOW), fields | told
        fields["last_error"] = store.outbox.described(error)
        if not error.retryable:
            stopped = Failure.of(error) | {"at": now}
            health = "answered" if answer.status is not None else ""
            return Outcome("stopped", health), fields | {"stopped": json.dumps(stopped)}
        wish = min(LONGEST_WISH, error.retry_after or 0.0)
        superseded = len(errand.events) > 1 and answer.health == "answered" and errand.attempts >= SKIP_AFTER
        if superseded:
            return Outcome("skipped", answer.health), fields
        delay = self._backoff[min(errand.attempts, len(self._backoff)) - 1] * random.uniform(1, 1.25)  # noqa: S311 - jitter, not a secret
        last = max(now, errand.since + self._patience)  # the last moment at which a try makes sense
        due = min(now + max(delay, wish), last)
        return Outcome("failed", answer.health, due, wish if answer.health == "down" else 0.0), fields

    def _give_up(self, job: Job, receiver: str, errand: Errand) -> float | None:
        days = self._patience / 86400
        error = JobError(
            ErrorCode.WEBHOOK_GAVE_UP, f"not delivered within {days:.3g} days, after {errand.attempts - 1} tries"
        )
        log.error("Webhook stopped", receiver=receiver, code=error.code, reason=error.message)
        stopped = json.dumps(Failure.of(error) | {"at": time.time()})
        return self._settle(job.id, receiver, errand.events[0], Outcome("stopped"), {"stopped": stopped})

    def _settle(
        self, job_id: str, receiver: str, event: Event, outcome: Outcome, fields: dict[str, str]
    ) -> float | None:
        jitter = random.uniform(1, 1.1)  # noqa: S311 - jitter, not a secret
        pauses = [min(LONGEST_PAUSE, pause) * jitter for pause in self._backoff]
        return store.outbox.settle(job_id, receiver, event, outcome, fields, pauses)
