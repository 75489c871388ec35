"""The engine: the face over the scheduler and the slots. Messages in, transcripts out, from any number of threads."""

from __future__ import annotations

import math
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import structlog

from pipeline.metrics import hooks
from pipeline.transcribe import devices, models
from pipeline.transcribe.audio import SAMPLE_RATE, check_samples
from pipeline.transcribe.child import SlotInfo
from pipeline.transcribe.failures import DiedError, EngineError, HungError, OutOfMemoryError, UnfitError
from pipeline.transcribe.message import Message, Task, fail
from pipeline.transcribe.options import Options, check
from pipeline.transcribe.scheduler import Scheduler
from pipeline.transcribe.slot import START_TIMEOUT, Slot
from pipeline.transcribe.window import cut
from voicemill.errors import ErrorCode, JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from pipeline.transcribe.window import WindowResult
    from voicemill.transcript import Transcript

__all__ = ["Engine", "SlotInfo"]

MOST_FAILURES = 2  # batches that may end badly with a window on board before its message is given up
STARTS = 2  # attempts to bring a slot up, at first and whenever it was lost
BATCH = {"cpu": 8, "cuda": 32}  # windows; on a CPU more bring nothing, on a GPU they are halved where memory ends
SHARES = {"cpu": 2, "cuda": 1}  # batches that what waits is divided into for each slot: a CPU's must end together
SECONDS = {"cpu": 30.0, "cuda": math.inf}  # of audio in a batch: a quarter of a second's work for tiny, half for base
IDLE = 60.0  # seconds after which an idle slot proves itself again
LONG = 120.0  # seconds; a longer message is cut in the background and finer, so that short ones pass it by
GROWTH = 2 * 1024**3  # bytes that a slot's process may hold more than when it started, before it is replaced

log = structlog.get_logger(__name__)


class Engine:
    """A set of slots, each a process with the model on one device, and the messages that wait for them.

    Its processes live until `stop`, or to the end of a `with`.

    Args:
        model: a folder, a name from the model hub, `bundled:tiny.en` or `bundled:base`.
        device: `cuda`, `cpu`, or `auto`: a GPU where one is visible.
        compute_type: CTranslate2's name, or `auto`: float16 on a GPU, int8 on a CPU.
        model_dir: where fetched models are kept.
        beam_size: of the second look at doubtful windows, where a message does not say.
        replicas: processes on a CPU; 0: as many as are fastest together, tried once on each machine.
        gpus: `all`, or indices of visible GPUs such as `0,1`.
        timeout: constant part of a batch's time limit (seconds); four times its audio is added.
        encoder_window: `auto`, `full`, or the least seconds of audio that the encoder is shown.
        degraded: the reason why this engine runs on a CPU though a GPU was wanted; it marks every transcript.
        idle: seconds after which an idle slot proves itself again.
        growth: bytes by which a slot's process may grow before it is replaced.

    Raises:
        EngineError: no slot could be started, or the model cannot be had.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        model: str,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        model_dir: str | Path | None = None,
        beam_size: int = 5,
        replicas: int = 0,
        gpus: str = "all",
        timeout: float = 120.0,
        encoder_window: str = "auto",
        degraded: str | None = None,
        idle: float = IDLE,
        growth: int = GROWTH,
    ) -> None:
        path = models.resolve(model, model_dir)
        specs = devices.plan(
            model=model,
            path=path,
            device=device,
            compute_type=compute_type,
            replicas=replicas,
            gpus=gpus,
            encoder_window=encoder_window,
            beam_size=beam_size,
        )
        self._degraded = degraded
        self._idle, self._growth, self._timeout = idle, growth, timeout
        self._batch = BATCH[specs[0].device]
        place = specs[0].device
        self._scheduler = Scheduler(SHARES[place] * len(specs), SECONDS[place], give_way=place == "cpu")
        self._stopping = False
        self._background = ThreadPoolExecutor(1, "cutter", initializer=_give_way)
        self._teller = ThreadPoolExecutor(1, "teller")  # of progress, to callers who may be slow
        self._slots = [Slot(spec, timeout) for spec in specs]
        self._ready: list[Future[SlotInfo]] = [Future() for _ in specs]
        self._threads = [
            threading.Thread(target=self._serve, args=pair, name=f"slot-{index}", daemon=True)
            for index, pair in enumerate(zip(self._slots, self._ready, strict=True))
        ]
        for thread in self._threads:
            thread.start()
        failures = [error for ready in self._ready if (error := ready.exception(timeout=STARTS * (START_TIMEOUT + 60)))]
        if len(failures) == len(specs):
            raise EngineError(f"No slot could be started. {failures[0]}") from failures[0]
        self._info = next(slot.info for slot in self._slots if slot.info is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def slots(self) -> list[SlotInfo]:
        """The slots that take work, each as its process proved itself last."""
        return [info for slot in self._slots if (info := slot.info) is not None and not slot.retired]

    @property
    def alive(self) -> bool:
        """Whether any slot is left to take work."""
        return bool(self.slots)

    @property
    def proofs(self) -> dict[str, float | None]:
        """How long ago each slot passed its canary or a batch (seconds); None: its process is being started.

        One that takes no more work is not among them.
        """
        now = time.monotonic()
        return {
            f"{index} {slot.spec.device_name}": None if slot.proved_at is None else now - slot.proved_at
            for index, slot in enumerate(self._slots)
            if not slot.retired
        }

    @property
    def patience(self) -> float:
        """Seconds without a proof after which a slot is not to be relied on: it was to prove itself, and does not."""
        return self._idle + self._timeout

    @property
    def retired(self) -> int:
        """How many slots take no more work."""
        return sum(slot.retired for slot in self._slots)

    def transcribe(self, audios: Sequence[np.ndarray], options: Sequence[Options] | None = None) -> list[Transcript]:
        """Transcribe several messages and wait for all of them.

        Args:
            audios: float32 samples of shape (n,) at 16 kHz each.
            options: one for each; None: the defaults for all.

        Raises:
            JobError: of the first message that failed.
            ValueError: an audio is something else, or there are more or fewer options.
        """
        wishes = options if options is not None else [Options()] * len(audios)
        futures = [self.submit(audio, wish) for audio, wish in zip(audios, wishes, strict=True)]
        return [future.result() for future in futures]

    def submit(
        self, audio: np.ndarray, options: Options, on_progress: Callable[[int, int], None] | None = None
    ) -> Future[Transcript]:
        """Take a message in and return the future of its transcript; a short one is cut in the calling thread.

        Args:
            audio: float32 samples of shape (n,) at 16 kHz.
            options: what is wanted.
            on_progress: called with the windows done and their number while a message of several is at work, from a
                thread of the engine's own; a slow one hears of fewer steps.

        Returns:
            A future whose exception, if any, is a JobError. Cancelling it drops the windows that still wait.

        Raises:
            ValueError: `audio` is something else.
        """
        check_samples(audio)
        future: Future[Transcript] = Future()
        duration = len(audio) / SAMPLE_RATE
        try:
            if self._stopping or not self.alive:
                raise self._gone()
            check(options, duration, self._info)
        except JobError as error:
            future.set_exception(error)
            return future
        if not self._info.multilingual:
            options = replace(options, language="en")
        if duration > LONG:
            cutting = self._background.submit(self._admit, audio, options, future, on_progress)
            cutting.add_done_callback(lambda done: fail(future, self._gone()) if done.cancelled() else None)
        else:
            self._admit(audio, options, future, on_progress)
        return future

    def _admit(
        self,
        audio: np.ndarray,
        options: Options,
        future: Future[Transcript],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Cut a message into windows and let them wait for their turns."""
        duration = len(audio) / SAMPLE_RATE
        try:
            with self._scheduler.arriving() if duration <= LONG else nullcontext():
                longest = self._info.window if duration <= LONG else self._info.long_window
                message = Message(options, cut(audio, longest), duration, future, on_progress)
                if not message.windows:
                    message.deliver(self._info, self._degraded)
                elif not self._scheduler.add(message):
                    message.fail(self._gone())
        except Exception as error:  # in the background nobody would hear of it
            log.exception("fault while a message was cut", seconds=round(duration))
            fail(future, JobError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))

    def stop(self, timeout: float = 30.0) -> None:
        """Let running batches finish within `timeout` seconds; what still waits fails with `worker_stopped`."""
        self._stopping = True
        end = time.monotonic() + timeout
        self._background.shutdown(wait=False, cancel_futures=True)
        self._teller.shutdown(wait=False, cancel_futures=True)
        unfinished = self._scheduler.close()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for message in unfinished:  # before their slots end, which takes a while and would look like a lost device
            message.fail(self._gone())
        for slot in self._slots:
            slot.retire()

    def _gone(self) -> JobError:
        if self._stopping:
            return JobError(ErrorCode.WORKER_STOPPED, "the worker was told to stop before the message was done")
        return JobError(ErrorCode.GPU_UNFIT, "no device of this worker can run the model any more")

    def _serve(self, slot: Slot, ready: Future[SlotInfo]) -> None:
        """Start a slot and feed it until the engine stops or the slot is beyond help: the life of a slot's thread."""
        try:
            ready.set_result(self._start(slot))
        except UnfitError as error:
            slot.retire()
            ready.set_exception(error)
            return
        while (batch := self._scheduler.take(self._batch, self._idle)) is not None:
            fit = self._run(slot, batch) if batch else self._proves_itself(slot)
            if fit and slot.grown > self._growth:
                log.info("slot recycled", device_name=slot.spec.device_name, grown_bytes=slot.grown)
                slot.stop()
                fit = self._restart(slot, "grown")
            if not fit:
                self._retire(slot)
                return

    def _run(self, slot: Slot, batch: list[Task]) -> bool:
        """Have a batch decoded and see to its outcome; False when the slot is beyond help."""
        began = time.monotonic()
        try:
            results = slot.run([(task.window, task.message.options) for task in batch])
        except OutOfMemoryError as error:
            if len(batch) > 1:
                self._batch = max(1, self._batch // 2)
            hooks.note("batches_failed_total", reason="out_of_memory")
            log.warning("out of memory", windows=len(batch), batch_from_now_on=self._batch)
            self._try_again(batch, JobError(ErrorCode.OUT_OF_MEMORY, str(error)), charged=len(batch) == 1)
            return True
        except (DiedError, HungError) as error:
            hung = isinstance(error, HungError)
            code, reason = ("transcribe_timeout", "hung") if hung else ("transcribe_crashed", "died")
            hooks.note("batches_failed_total", reason=reason)
            log.warning("slot lost", device_name=slot.spec.device_name, windows=len(batch), reason=str(error))
            self._try_again(batch, JobError(code, f"{error} at this message"), charged=True)
            return self._restart(slot, reason)
        except UnfitError as error:  # it had died while idle, and did not come back
            log.critical("slot unfit", device_name=slot.spec.device_name, reason=str(error))
            self._try_again(batch, self._gone(), charged=False)
            return self._restart(slot, "unfit")
        except Exception as error:
            hooks.note("batches_failed_total", reason="fault")
            log.exception("fault while a batch ran", device_name=slot.spec.device_name, windows=len(batch))
            self._try_again(batch, JobError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"), charged=True)
            return self._restart(slot, "fault")
        _measure(batch, results, time.monotonic() - began)
        for task, result in zip(batch, results, strict=True):
            if self._scheduler.finish(task, result):
                task.message.deliver(self._info, self._degraded)
            elif task.message.on_progress is not None and not task.message.telling:
                task.message.telling = True
                with suppress(RuntimeError):  # the engine has been stopped meanwhile
                    self._teller.submit(self._tell, task.message)
        return True

    @staticmethod
    def _tell(message: Message) -> None:
        """Report how far a message is by now; what happens from here on is told next time."""
        message.telling = False
        if message.on_progress is not None and not message.future.done():
            try:
                message.on_progress(len(message.results), len(message.windows))
            except Exception:  # a caller's bar must not cost the others theirs
                log.exception("progress could not be told")

    def _try_again(self, batch: list[Task], error: JobError, *, charged: bool) -> None:
        """Give the windows of a batch that ended badly back; those that were on board too often fail their message."""
        again = []
        for task in batch:
            task.failures += charged
            if task.failures < MOST_FAILURES:
                again.append(task)
            else:
                self._scheduler.drop(task.message)
                task.message.fail(error)
        self._scheduler.give_back(again)

    def _proves_itself(self, slot: Slot) -> bool:
        """Have an idle slot run its canary; one that fails is started anew."""
        try:
            slot.canary()
        except (DiedError, HungError, OutOfMemoryError) as error:
            log.warning("idle slot failed its canary", device_name=slot.spec.device_name, reason=str(error))
            return self._restart(slot, "canary")
        except UnfitError as error:
            log.critical("slot unfit", device_name=slot.spec.device_name, reason=str(error))
            return self._restart(slot, "unfit")
        return True

    def _restart(self, slot: Slot, reason: str) -> bool:
        """Bring a slot back that was lost for this reason; False after it failed twice running, or at the end."""
        if self._stopping:
            return False
        hooks.note("slot_restarts_total", reason=reason)
        try:
            self._start(slot)
        except UnfitError:
            return False
        return True

    @staticmethod
    def _start(slot: Slot) -> SlotInfo:
        """Start a slot; raises UnfitError where it failed twice running."""
        attempt = 1
        while True:
            try:
                return slot.start()
            except UnfitError as error:
                log.critical("slot unfit", device_name=slot.spec.device_name, attempt=attempt, reason=str(error))
                if attempt == STARTS or slot.retired:
                    raise
            attempt += 1

    def _retire(self, slot: Slot) -> None:
        """Take a slot out for good; with the last one go all messages."""
        slot.retire()
        if not self.slots:
            for message in self._scheduler.close():
                message.fail(self._gone())


def _measure(batch: list[Task], results: list[WindowResult], took: float) -> None:
    hooks.note("batch_windows", len(batch))
    hooks.note("batch_seconds", took)
    hooks.note("real_time_factor", took / sum(task.window.duration for task in batch))
    for result in results:
        hooks.note("windows_total", look=result.look.partition(" ")[0])  # whichever temperature it took


def _give_way() -> None:
    """Let the calling thread have what the slots leave of the cores (Linux gives every thread its own niceness)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
