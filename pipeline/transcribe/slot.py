"""The parent's side of a slot: one process with one model on one device, replaced when it dies or hangs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from pebble import ProcessExpired, ProcessPool

from pipeline.metrics import hooks
from pipeline.transcribe import child
from pipeline.transcribe.failures import BrokenError, DiedError, GoneError, HungError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.transcribe.backends.base import WindowRequest, WindowResult
    from pipeline.transcribe.child import SlotInfo, Spec

START_TIMEOUT = 300.0  # seconds; a large model from a cold disk, and PTX compiled for a new GPU (180 s)
TIMEOUT_PER_SECOND = 4.0  # seconds of work allowed for a second of audio, on top of the constant part
_GRACE = 15.0  # seconds that pebble may take to end a process stuck in C code

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Slot:
    """One process with one model. All methods but `retire` belong to the thread that serves the slot.

    The process gets a parent-death signal that follows the thread which spawned it, so that thread must live as long.

    Args:
        spec: the model and the device.
        timeout: constant part of a batch's time limit (seconds).
        timeout_per_second: seconds of work allowed for a second of audio, on top of `timeout`.
    """

    def __init__(self, spec: Spec, timeout: float, timeout_per_second: float = TIMEOUT_PER_SECOND) -> None:
        self.spec = spec
        self.info: SlotInfo | None = None  # of the last start
        self.retired = False  # for good: it takes no more work
        self.proved_at: float | None = None  # monotonic time of the last canary or batch; None: the process is starting
        self._timeout, self._timeout_per_second = timeout, timeout_per_second
        self._pool: ProcessPool | None = None
        self._running: Future[Any] | None = None
        self._fresh = 0  # bytes that the process held when it was new

    def start(self) -> SlotInfo:
        """Start the process if there is none, have it load the model, and wait for its canary.

        Raises:
            UnfitError: the model does not work on the device.
        """
        self.proved_at = None
        if self._pool is not None and not self._pool.active:
            self.stop()
        try:
            info = self._call(child.start, self.spec, timeout=START_TIMEOUT)
        except GoneError as error:  # while it imported the main program, which a spawned process does first
            raise UnfitError(
                f"{self.spec.model} on {self.spec.device_name}: the process ended before it loaded anything; "
                'a program of your own must make its Engine under `if __name__ == "__main__":`'
            ) from error
        except (DiedError, HungError) as error:
            raise UnfitError(f"{self.spec.model} on {self.spec.device_name}: {error} while it loaded") from error
        log.info("slot ready", device_name=info.device_name, compute_type=info.compute_type, pid=info.pid)
        self.info, self._fresh = info, resident(info.pid)
        self.proved_at = time.monotonic()
        return info

    def run(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """Decode a batch.

        Raises:
            DiedError: the process died during the batch.
            HungError: the batch exceeded its time limit, and the process was killed.
            OutOfMemoryError: the batch is too large for the device.
        """
        seconds = sum(request.window.duration for request in requests)
        limit = self._timeout + self._timeout_per_second * seconds
        try:
            results = self._call(child.run, requests, timeout=limit)
        except GoneError:  # before this batch reached it
            self._replace_dead()
            results = self._call(child.run, requests, timeout=limit)
        self.proved_at = time.monotonic()
        return results

    def canary(self) -> None:
        """Run the canary; raises as `run` does."""
        try:
            self._call(child.canary, timeout=self._timeout)
        except GoneError:
            self._replace_dead()
        self.proved_at = time.monotonic()

    def trial(self) -> float:
        """Return how many windows a second the process decodes; raises as `run` does."""
        return self._call(child.trial, timeout=self._timeout)

    @property
    def grown(self) -> int:
        """Bytes of physical memory that the process has gained since it was new."""
        return resident(self.info.pid) - self._fresh if self.info else 0

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()

    def retire(self) -> None:
        """End the process for good; may be called from any thread, also while a batch runs."""
        self.retired = True
        if self._running is not None:
            self._running.cancel()  # pebble would leave its waiter waiting
        self.stop()

    def _replace_dead(self) -> None:
        log.warning("slot died while idle", device_name=self.spec.device_name)
        hooks.note("slot_restarts_total", reason="died_idle")
        self.start()

    def _call(self, function: Callable[..., T], *args: Any, timeout: float) -> T:
        if self.retired:
            raise DiedError("the process was ended")
        try:
            self._running = self._scheduled(function, args, timeout)
            result: T = self._running.result(timeout=timeout + _GRACE)
        except CancelledError as error:
            raise DiedError("the process was ended") from error
        except (BrokenProcessPool, RuntimeError) as error:  # what pebble raises if the process died while idle
            self.stop()
            raise GoneError("the process died while idle") from error
        except ProcessExpired as error:
            raise DiedError(f"the process {_how(error.exitcode)}") from error
        except BrokenError:
            self.stop()  # the library's state is unknown
            raise
        except FutureTimeoutError as error:
            self.stop()
            raise HungError(f"the process was killed after {timeout:.0f} s") from error
        return result

    def _scheduled(self, function: Callable[..., T], args: tuple[Any, ...], timeout: float) -> Future[T]:
        """Hand a call to the process, which is started with the first one.

        Raises:
            UnfitError: the system refuses the resources of a process; its locks are in /dev/shm.
        """
        pool = self._living_pool()
        try:
            scheduled: Future[T] = pool.schedule(function, args=args, timeout=timeout)
        except OSError as error:
            self._pool = None  # it never started: there is nothing to stop
            raise UnfitError(
                f"no process can be started for {self.spec.model}: {error.strerror}. Check that /dev/shm exists, is "
                "writable and has room, and the limits on open files and processes"
            ) from error
        return scheduled

    def _living_pool(self) -> ProcessPool:
        """Return the pool of one process; create it if there is none."""
        if self._pool is None:
            self._pool = ProcessPool(
                max_workers=1,
                context=multiprocessing.get_context("spawn"),  # a fork would inherit the parent's threads and locks
                initializer=child.initialize,
                initargs=(self.spec.gpu,),
            )
        return self._pool


def resident(pid: int) -> int:
    """Return the physical memory that a process holds (bytes); 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _how(code: int | None) -> str:
    """Describe how a process ended."""
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
