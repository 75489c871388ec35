"""What happens to a message whose work failed: another try later, or a failed job and a dead letter.

Dramatiq's own Retries enqueues inside a hook whose exceptions are swallowed, and the message is then acknowledged and
lost. Here nothing is given up while Redis cannot be reached; a worker killed meanwhile leaves its message in its hands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

import dramatiq
import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.errors import Retry
from dramatiq.middleware import Middleware

from actors.selftest import SelfTest
from pipeline.metrics import hooks as measures
from voicemill.errors import ErrorCode, Fault, JobError
from voicemill.lifecycle import STAGES
from voicemill.store import connection

MAX_RETRIES = 6  # after the first try: a server that is restarted, a minute or so, fails no job
MIN_BACKOFF = 1.0  # seconds before the first retry; doubled for each one after
# What a source's server may ask for (seconds): not long enough to park a job out of sight by one header, but as many
# such waits as there are retries outlast a limit that is counted by the hour.
LONGEST_WISH = 900.0
NOT_ITS_FAULT = {
    "handoff_full",
    "redis_unavailable",
    "worker_stopped",
}  # codes for which no retry is counted: the next may go well
PATIENCE = 2.0  # seconds between two tries to reach Redis

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class Retries(Middleware):
    """Decides by the error's code: a retry with exponential back-off and jitter, or the end of the job.

    Actors raise `JobError`; `dramatiq.errors.Retry` asks for another try at a time of the actor's own choosing. A
    message that failed because of its worker's machine is handed back at once, and the try is not counted.
    """

    def __init__(self, self_test: SelfTest | None = None) -> None:
        self._self_test = self_test

    @property
    def actor_options(self) -> set[str]:
        """`throws`: the exceptions that Dramatiq logs in a line, without a traceback."""
        return {"throws"}

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002 - Dramatiq's signature
        exception: BaseException | None = None,
    ) -> None:
        """Retry a failed message or end its job; what was raised is never lost, only the retries are bounded."""
        if exception is None:
            return
        try:
            self._decide(broker, message, exception)
        except redis.RedisError:
            message.fail()  # Redis will never take what was to be written: the dead letter is what is left
            raise

    def _decide(self, broker: dramatiq.Broker, message: MessageProxy, exception: BaseException) -> None:
        retries, counted = message.options.get("retries", 0), 1
        stage = message.queue_name
        error = exception if isinstance(exception, JobError) else JobError(ErrorCode.INTERNAL, type(exception).__name__)
        if isinstance(exception, redis.RedisError):
            code = "redis_unavailable" if connection.may_pass(exception) else "internal"
            if code == "internal":
                log.error("Redis refuses a command", exc_info=exception)
            error = JobError(code, f"{type(exception).__name__}: {exception}")
        if isinstance(exception, Retry):
            delay = (exception.delay or 0) / 1000
            error = exception.__cause__ if isinstance(exception.__cause__, JobError) else error
        elif error.code in NOT_ITS_FAULT:
            counted, delay = 0, MIN_BACKOFF * random.uniform(2, 5)  # noqa: S311 - jitter, not a secret
        elif self._self_test is not None and (reason := self._self_test.explains(error)):
            self._hand_back(
                broker, message, error if error.fault is Fault.WORKER else JobError(ErrorCode.WORKER_UNFIT, reason)
            )
            return
        elif error.retryable and retries < MAX_RETRIES:
            backoff = MIN_BACKOFF * 2**retries
            wish = min(LONGEST_WISH, error.retry_after or 0.0)
            delay = max(backoff, wish) * random.uniform(1, 1.5)  # noqa: S311 - jitter, not a secret
        else:
            measures.note("attempts_failed_total", stage=stage, code=error.code)
            log.warning("Job failed", code=error.code, reason=error.message)
            failed = patiently(lambda: store.jobs.fail(message.message_id, stage, error))
            if failed or stage not in STAGES:  # else a twin of the message has brought the job further
                message.fail()
            return
        measures.note("attempts_failed_total", stage=stage, code=error.code)
        # Gemini's own words go into the job's record alone: they may quote what was said.
        told = {} if stage == "enrich" else {"reason": error.message}
        log.warning("Stage is tried again", code=error.code, **told, delay=round(delay, 1))
        again = message.copy(options={"retries": retries + counted})
        patiently(lambda: broker.enqueue(again, delay=int(delay * 1000)))
        patiently(lambda: store.jobs.retrying(message.message_id, stage, error, time.time() + delay))

    @staticmethod
    def _hand_back(broker: dramatiq.Broker, message: MessageProxy, error: JobError) -> None:
        """Return a message to its queue for another worker, or for this one once it has recovered."""
        measures.note("attempts_failed_total", stage=message.queue_name, code=error.code)
        log.warning("Message handed back", code=error.code, reason=error.message)
        again = message.copy(options={"retries": message.options.get("retries", 0)})
        patiently(lambda: broker.enqueue(again))
        patiently(lambda: store.jobs.retrying(message.message_id, message.queue_name, error, time.time()))


def patiently(step: Callable[[], Result]) -> Result:
    """Do `step`, again and again while Redis cannot do it: it is away, full, loading or read-only.

    Raises:
        redis.RedisError: it will not do it later either.
    """
    while True:
        try:
            return step()
        except redis.RedisError as error:
            if not connection.may_pass(error):
                raise
            log.warning("Redis cannot be used, waiting", reason=str(error))
            time.sleep(PATIENCE)  # nothing announces that Redis is back
