"""What happens to a message whose work failed: another attempt later, or a failed job and a dead letter.

Dramatiq's own Retries enqueues inside a hook whose exceptions are swallowed, and the message is then acknowledged and
lost. Here nothing is given up while Redis cannot be reached; a worker killed meanwhile still holds its message.
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
from dramatiq.middleware import Middleware

from actors.attempt import Attempt
from actors.selftest import SelfTest
from pipeline.metrics import hooks
from pipeline.stage import RetryLater
from voicemill.errors import ErrorCode, Fault, JobError
from voicemill.lifecycle import STAGES, stage_of
from voicemill.store import Store, connection
from voicemill.store.queue import SCHEMA

MAX_RETRIES = 6  # after the first attempt: a server that is restarted, a minute or so, fails no job
MIN_BACKOFF = 1.0  # seconds before the first retry; doubled for each one after
# What a source's server may ask for (seconds): not long enough to park a job out of sight by one header, but as many
# such waits as there are retries outlast a limit that is counted by the hour.
LONGEST_WISH = 900.0
# Codes for which no retry is counted: the next attempt may succeed.
UNCOUNTED = (ErrorCode.HANDOFF_FULL, ErrorCode.REDIS_UNAVAILABLE, ErrorCode.WORKER_STOPPED)
PAUSE = 2.0  # seconds between two attempts to reach Redis

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


class Retries(Middleware):
    """Decides by the error's code: a retry with exponential back-off and jitter, or the end of the job.

    A message that failed because of its worker's machine is handed back at once, and the attempt is not counted.

    Args:
        store: where the jobs are.
        attempt: of the present thread.
        self_test: of the worker; None: the worker is never blamed.
    """

    def __init__(self, store: Store, attempt: Attempt, self_test: SelfTest | None = None) -> None:
        self._store, self._attempt, self._self_test = store, attempt, self_test

    @property
    def actor_options(self) -> set[str]:
        """`throws`: the exceptions that Dramatiq logs in a line, without a traceback."""
        return {"throws"}

    def before_process_message(self, _broker: dramatiq.Broker, _message: MessageProxy) -> None:
        """Forget the attempt at another message."""
        self._attempt.token = None

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
            message.fail()  # Redis will never accept what was to be written: the dead letter is what is left
            raise

    def _decide(self, broker: dramatiq.Broker, message: MessageProxy, exception: BaseException) -> None:
        retries, counted = message.options.get("retries", 0), 1
        stage = stage_of(message.queue_name)
        error = _error_of(exception)
        if isinstance(exception, RetryLater):
            delay = exception.delay
        elif error.code in UNCOUNTED:
            counted, delay = 0, MIN_BACKOFF * random.uniform(2, 5)  # noqa: S311 - jitter, not a secret
        elif self._self_test is not None and (reason := self._self_test.explains(error)):
            unfit = error.code.fault is Fault.WORKER
            self._hand_back(broker, message, error if unfit else JobError(ErrorCode.WORKER_UNFIT, reason))
            return
        elif error.code.retryable and retries < MAX_RETRIES:
            backoff = MIN_BACKOFF * 2**retries
            wish = min(LONGEST_WISH, error.retry_after or 0.0)
            delay = max(backoff, wish) * random.uniform(1, 1.5)  # noqa: S311 - jitter, not a secret
        else:
            self._fail(message, stage, error)
            return
        hooks.note("attempts_failed_total", stage=stage, code=error.code)
        # A provider's own words go into the job's record alone: they may quote what was said.
        details: dict[str, str] = {} if stage == "enrich" else {"reason": error.message}
        log.warning("Stage is retried", code=error.code, **details, delay=round(delay, 1))
        again = _reference(message, retries + counted)
        patiently(lambda: broker.enqueue(again, delay=int(delay * 1000)))
        patiently(lambda: self._store.jobs.retrying(message.message_id, stage, error, time.time() + delay))

    def _fail(self, message: MessageProxy, stage: str, error: JobError) -> None:
        hooks.note("attempts_failed_total", stage=stage, code=error.code)
        log.warning("Job failed", code=error.code, reason=error.message)
        token = self._attempt.token
        failed = patiently(lambda: self._store.jobs.fail(message.message_id, stage, error, token=token))
        if not failed and stage in STAGES:
            return  # another attempt has brought the job further
        if stage in STAGES:  # nothing personal waits among the dead letters
            redis_id = message.options.get("redis_message_id", "")
            patiently(lambda: self._store.queues.replace_body(message.queue_name, redis_id, message.message_id))
        message.fail()

    def _hand_back(self, broker: dramatiq.Broker, message: MessageProxy, error: JobError) -> None:
        """Return a message to its queue for another worker, or for this one once it has recovered."""
        stage = stage_of(message.queue_name)
        hooks.note("attempts_failed_total", stage=stage, code=error.code)
        log.warning("Message handed back", code=error.code, reason=error.message)
        again = _reference(message, message.options.get("retries", 0))
        patiently(lambda: broker.enqueue(again))
        patiently(lambda: self._store.jobs.retrying(message.message_id, stage, error, time.time()))


def _error_of(exception: BaseException) -> JobError:
    if isinstance(exception, RetryLater):
        return exception.error
    if isinstance(exception, JobError):
        return exception
    if isinstance(exception, redis.RedisError):
        code = ErrorCode.REDIS_UNAVAILABLE if connection.may_pass(exception) else ErrorCode.INTERNAL
        if code is ErrorCode.INTERNAL:
            log.error("Redis refuses a command", exc_info=exception)
        return JobError(code, f"{type(exception).__name__}: {exception}")
    return JobError(ErrorCode.INTERNAL, type(exception).__name__)


def _reference(message: MessageProxy, retries: int) -> dramatiq.Message[Any]:
    """Return a message that carries its job's id alone, whoever wrote the original."""
    again: dramatiq.Message[Any] = message.copy(
        args=(message.message_id,), kwargs={"schema": SCHEMA}, options={"retries": retries}
    )
    return again


def patiently(step: Callable[[], Answer], *, pause: float = PAUSE) -> Answer:
    """Do `step`, again and again while Redis cannot do it: it is away, full, loading or read-only.

    Args:
        step: what to do.
        pause: seconds between two attempts.

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
            time.sleep(pause)  # nothing announces that Redis is back
