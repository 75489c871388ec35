"""Pause a worker whose machine cannot do its stage's work, before it fails messages, and resume it once it can.

A worker without FFmpeg, or with a full disk, fails a message within milliseconds and is free to take the next try, too:
one sick worker can fail every job of a queue for good although healthy workers are there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import dramatiq
import structlog
from dramatiq.middleware import Middleware

from voicemill.errors import ErrorCode, Fault, JobError

INTERVAL = 5.0  # seconds between two tests while paused
FRESH = 5.0  # seconds that a passed test speaks for the worker where the error is usually the message's fault

Test = Callable[[], None]  # raises what is wrong with this machine

log = structlog.get_logger(__name__)


class SelfTest(Middleware):
    """Test the machine when the worker starts and whenever a message fails.

    `test` is the stage's: it raises what is wrong. Without one the worker counts as fit.

    Args:
        stage: the worker's.
        interval: seconds between two tests while paused.
    """

    def __init__(self, stage: str, *, interval: float = INTERVAL) -> None:
        self.test: Test | None = None
        self.reason: str | None = None  # why the worker is paused
        self._stage, self._interval = stage, interval
        self._passed_at = float("-inf")  # on the monotonic clock: the start of the last test that passed
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Test before the first message is taken."""
        with self._lock:
            self._check()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Test no more."""
        self._ended.set()

    def may_take(self, queue: str) -> bool:
        """Return whether messages of a queue may be begun; delayed ones always may, which return to their queue."""
        return self.reason is None or queue.endswith(".DQ")

    def explains(self, error: JobError) -> str | None:
        """Return what is wrong with this machine if that can be why a message failed, and pause the worker; else None.

        Errors that come from outside are not the machine's. Those that are usually the message's are believed for
        `FRESH` seconds after a test that passed, so that a flood of broken files does not double its own cost.
        """
        if error.code.fault is Fault.OUTSIDE:
            return None
        asked = time.monotonic() - (FRESH if error.code.fault is Fault.MESSAGE else 0.0)
        with self._lock:
            if self.reason is None and self._passed_at < asked:
                self._check()
            return self.reason

    def _check(self) -> None:
        """Run the test once, and pause the worker if it fails."""
        began = time.monotonic()
        failure = self._failure()
        if failure is None:
            self._passed_at = began
            return
        self.reason = failure.message
        log.error("Worker paused", stage=self._stage, reason=failure.message)
        threading.Thread(target=self._await_recovery, args=(began,), name="self-test", daemon=True).start()

    def _failure(self) -> JobError | None:
        if self.test is None:
            return None
        try:
            self.test()
        except JobError as error:
            return error
        except Exception as error:  # whatever breaks the test breaks the work, too
            log.exception("Self-test failed", stage=self._stage)
            return JobError(ErrorCode.WORKER_UNFIT, f"{type(error).__name__}: {error}")
        return None

    def _await_recovery(self, since: float) -> None:
        while not self._ended.wait(self._interval):
            began = time.monotonic()
            failure = self._failure()
            if failure is None:
                self._passed_at, self.reason = began, None
                log.info("Worker resumed", stage=self._stage, paused_seconds=round(began - since, 1))
                return
            self.reason = failure.message
