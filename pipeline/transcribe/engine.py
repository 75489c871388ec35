"""The engine: messages in, transcripts out, from any number of threads. It connects the scheduler with the slots."""

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
from pipeline.transcribe import backends, devices, postprocess
from pipeline.transcribe.audio import SAMPLE_RATE, check_samples
from pipeline.transcribe.backends.base import DecodingSettings
from pipeline.transcribe.child import SlotInfo
from pipeline.transcribe.failures import DiedError, EngineError, HungError, OutOfMemoryError, UnfitError
from pipeline.transcribe.message import Message, WindowTask, fail
from pipeline.transcribe.options import DecodingOptions, check
from pipeline.transcribe.scheduler import Scheduler
from pipeline.transcribe.slot import START_TIMEOUT, TIMEOUT_PER_SECOND, Slot
from pipeline.transcribe.window import cut
from voicemill.errors import ErrorCode, JobError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from pipeline.transcribe.backends.base import Backend, WindowResult
    from pipeline.transcribe.postprocess import PostProcessor
    from voicemill.transcript import Transcript

__all__ = ["Engine", "SlotInfo"]

MOST_FAILURES = 2  # failed batches with a window in them before its message fails
STARTS = 2  # attempts to start a slot, at first and whenever it was lost
BATCH = {"cpu": 8, "cuda": 32}  # windows; on a CPU more gain nothing, on a GPU a lack of memory halves them
SHARES = {"cpu": 2, "cuda": 1}  # batches a slot that waiting windows are divided into: a CPU's slots must end together
SECONDS = {"cpu": 30.0, "cuda": math.inf}  # of audio in a batch: a quarter of a second's work for tiny, half for base
IDLE = 60.0  # seconds after which an idle slot runs its canary again
LONG = 120.0  # seconds; a longer message is cut in the background into smaller windows, so that short ones overtake it
GROWTH = 2 * 1024**3  # bytes that a slot's process may gain before it is replaced

log = structlog.get_logger(__name__)


class Engine:
    """A set of slots, each a process with the model on one device, and the messages that wait for them.

    Its processes live until `stop`, or to the end of a `with`.

    Args:
        model: a folder, a name from the model hub, `bundled:tiny.en` or `bundled:base`; `fake` needs no model.
        device: `cuda`, `cpu`, or `auto`: a GPU if one is visible.
        compute_type: the backend's name of an arithmetic, or `auto`: float16 on a GPU, int8 on a CPU.
        model_dir: where fetched models are kept.
        beam_size: of the first fallback pass, where a message's options don't say.
        replicas: processes on a CPU; 0: as many as are fastest together, measured once on each machine.
        gpus: `all`, or indices of visible GPUs such as `0,1`.
        timeout: constant part of a batch's time limit (seconds).
        encoder_window: `auto`, `full`, or the least seconds of audio that the encoder is shown.
        degraded: the reason why this engine runs on a CPU although a GPU was wanted; it marks every transcript.
        idle: seconds after which an idle slot runs its canary again.
        growth: bytes by which a slot's process may grow before it is replaced.
        timeout_per_second: seconds added to a batch's time limit for each second of its audio.
        backend: what loads and runs the model; None: the one that the model's name selects.
        postprocess: steps that every finished transcript goes through, in order, in a thread of their own.

    Raises:
        EngineError: no slot could be started, or the model is out of reach.
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
        timeout_per_second: float = TIMEOUT_PER_SECOND,
        backend: Backend | None = None,
        postprocess: Sequence[PostProcessor] = (),
    ) -> None:
        backend = backend or backends.create(model, DecodingSettings(beam_size, encoder_window))
        specs = devices.plan(
            backend=backend,
            model=model,
            path=backend.resolve(model, model_dir),
            device=device,
            compute_type=compute_type,
            replicas=replicas,
            gpus=gpus,
        )
        self._detect = backend.voice_detector()
        self._steps = tuple(postprocess)
        self._degraded = degraded
        self._idle, self._growth, self._timeout = idle, growth, timeout
        self._batch = BATCH[specs[0].device]
        place = specs[0].device
        self._scheduler = Scheduler(SHARES[place] * len(specs), SECONDS[place], give_way=place == "cpu")
        self._stopping = False
        self._cutting = ThreadPoolExecutor(1, "cutter", initializer=_lower_priority)
        self._reporting = ThreadPoolExecutor(1, "progress")  # callbacks may be slow
        self._postprocessing = ThreadPoolExecutor(1, "postprocess")
        self._slots = [Slot(spec, timeout, timeout_per_second) for spec in specs]
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
        """The slots that take work, each as of its last start."""
        return [info for slot in self._slots if (info := slot.info) is not None and not slot.retired]

    @property
    def alive(self) -> bool:
        """Whether any slot is left to take work."""
        return bool(self.slots)

    @property
    def proofs(self) -> dict[str, float | None]:
        """How long ago each slot passed its canary or a batch (seconds); None: its process is being started.

        Slots that take no more work are left out.
        """
        now = time.monotonic()
        return {
            f"{index} {slot.spec.device_name}": None if slot.proved_at is None else now - slot.proved_at
            for index, slot in enumerate(self._slots)
            if not slot.retired
        }

    @property
    def patience(self) -> float:
        """Seconds without a canary or batch after which a slot is unreliable: its canary is overdue."""
        return self._idle + self._timeout

    @property
    def retired(self) -> int:
        """How many slots take no more work."""
        return sum(slot.retired for slot in self._slots)

    def transcribe(
        self, audios: Sequence[np.ndarray], options: Sequence[DecodingOptions] | None = None
    ) -> list[Transcript]:
        """Transcribe several messages and wait for all of them.

        Args:
            audios: float32 samples of shape (n,) at 16 kHz each.
            options: one for each; None: the defaults for all.

        Raises:
            JobError: of the first message that failed.
            ValueError: an audio has another type or shape, or the number of options differs.
        """
        each = options if options is not None else [DecodingOptions()] * len(audios)
        futures = [self.submit(*pair) for pair in zip(audios, each, strict=True)]
        return [future.result() for future in futures]

    def submit(
        self, audio: np.ndarray, options: DecodingOptions, on_progress: Callable[[int, int], None] | None = None
    ) -> Future[Transcript]:
        """Queue a message and return the future of its transcript; a short one is cut in the calling thread.

        Args:
            audio: float32 samples of shape (n,) at 16 kHz.
            options: of this message.
            on_progress: called with the number of windows done and of all windows, from a thread of the engine, while
                the message is decoded; a slow callback is called less often.

        Returns:
            A future whose exception, if any, is a JobError. Cancelling it drops the windows that still wait.

        Raises:
            ValueError: `audio` has another type or shape.
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
        if only := self._info.capabilities.only_language:
            options = replace(options, language=only)
        if duration > LONG:
            cutting = self._cutting.submit(self._admit, audio, options, future, on_progress)
            cutting.add_done_callback(lambda done: fail(future, self._gone()) if done.cancelled() else None)
        else:
            self._admit(audio, options, future, on_progress)
        return future

    def _admit(
        self,
        audio: np.ndarray,
        options: DecodingOptions,
        future: Future[Transcript],
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        """Cut a message into windows and queue them."""
        duration = len(audio) / SAMPLE_RATE
        try:
            with self._scheduler.arriving() if duration <= LONG else nullcontext():
                known = self._info.capabilities
                longest = known.longest_window if duration <= LONG else known.long_message_window
                windows = cut(audio, longest, self._detect)
                message = Message(options, windows, duration, future, on_progress, audio if self._steps else None)
                if not message.windows:
                    self._finish(message)
                elif not self._scheduler.add(message):
                    message.fail(self._gone())
        except Exception as error:  # else the sender would wait for ever
            log.exception("fault while a message was cut", seconds=round(duration))
            fail(future, JobError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"))

    def stop(self, timeout: float = 30.0) -> None:
        """Let running batches finish within `timeout` seconds; all other messages fail with `worker_stopped`."""
        self._stopping = True
        end = time.monotonic() + timeout
        self._cutting.shutdown(wait=False, cancel_futures=True)
        self._reporting.shutdown(wait=False, cancel_futures=True)
        unfinished = self._scheduler.close()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._postprocessing.shutdown(wait=False, cancel_futures=True)
        for message in unfinished:  # before their slots end, which takes a while and would look like a lost device
            message.fail(self._gone())
        for slot in self._slots:
            slot.retire()

    def _gone(self) -> JobError:
        if self._stopping:
            return JobError(ErrorCode.WORKER_STOPPED, "the worker stopped before the message was done")
        return JobError(ErrorCode.GPU_UNFIT, "no device of this worker can run the model any more")

    def _serve(self, slot: Slot, ready: Future[SlotInfo]) -> None:
        """Run in a slot's thread: start the slot and feed it until the engine stops or the slot cannot be restarted."""
        try:
            ready.set_result(self._start(slot))
        except UnfitError as error:
            slot.retire()
            ready.set_exception(error)
            return
        while (batch := self._scheduler.take(self._batch, self._idle)) is not None:
            fit = self._run(slot, batch) if batch else self._check_idle(slot)
            if fit and slot.grown > self._growth:
                log.info("slot recycled", device_name=slot.spec.device_name, grown_bytes=slot.grown)
                slot.stop()
                fit = self._restart(slot, "grown")
            if not fit:
                self._retire(slot)
                return

    def _run(self, slot: Slot, batch: list[WindowTask]) -> bool:
        """Decode a batch and handle its result; return False if the slot cannot be restarted."""
        began = time.monotonic()
        try:
            results = slot.run([task.request for task in batch])
        except OutOfMemoryError as error:
            if len(batch) > 1:
                self._batch = max(1, self._batch // 2)
            hooks.note("batches_failed_total", reason="out_of_memory")
            log.warning("out of memory", windows=len(batch), batch_from_now_on=self._batch)
            self._retry(batch, JobError(ErrorCode.OUT_OF_MEMORY, str(error)), charged=len(batch) == 1)
            return True
        except (DiedError, HungError) as error:
            hung = isinstance(error, HungError)
            code = ErrorCode.TRANSCRIBE_TIMEOUT if hung else ErrorCode.TRANSCRIBE_CRASHED
            reason = "hung" if hung else "died"
            hooks.note("batches_failed_total", reason=reason)
            log.warning("slot lost", device_name=slot.spec.device_name, windows=len(batch), reason=str(error))
            self._retry(batch, JobError(code, f"{error} at this message"), charged=True)
            return self._restart(slot, reason)
        except UnfitError as error:  # it had died while idle, and did not come back
            log.critical("slot unfit", device_name=slot.spec.device_name, reason=str(error))
            self._retry(batch, self._gone(), charged=False)
            return self._restart(slot, "unfit")
        except Exception as error:
            hooks.note("batches_failed_total", reason="fault")
            log.exception("fault while a batch ran", device_name=slot.spec.device_name, windows=len(batch))
            self._retry(batch, JobError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"), charged=True)
            return self._restart(slot, "fault")
        _measure(batch, results, time.monotonic() - began)
        for task, result in zip(batch, results, strict=True):
            if self._scheduler.finish(task, result):
                self._finish(task.message)
            elif task.message.on_progress is not None and not task.message.reporting:
                task.message.reporting = True
                with suppress(RuntimeError):  # the engine has been stopped meanwhile
                    self._reporting.submit(self._report_progress, task.message)
        return True

    def _finish(self, message: Message) -> None:
        """Deliver the transcript of a message whose windows are all decoded, after post-processing if there is any."""
        transcript = message.transcript(self._info, self._degraded)
        audio, message.audio = message.audio, None
        if audio is None:
            message.deliver(transcript)
            return
        try:
            work = self._postprocessing.submit(postprocess.apply, self._steps, transcript, audio)
        except RuntimeError:  # the engine has been stopped meanwhile
            message.fail(self._gone())
            return
        work.add_done_callback(
            lambda done: message.fail(self._gone()) if done.cancelled() else message.deliver(done.result())
        )

    @staticmethod
    def _report_progress(message: Message) -> None:
        """Call a message's progress callback; windows decoded from here on need another report."""
        message.reporting = False
        if message.on_progress is not None and not message.future.done():
            try:
                message.on_progress(len(message.results), len(message.windows))
            except Exception:  # one caller's fault must not cost the others their reports
                log.exception("progress callback failed")

    def _retry(self, batch: list[WindowTask], error: JobError, *, charged: bool) -> None:
        """Give back the windows of a failed batch; a window that was in too many of them fails its message."""
        again = []
        for task in batch:
            task.failures += charged
            if task.failures < MOST_FAILURES:
                again.append(task)
            else:
                self._scheduler.drop(task.message)
                task.message.fail(error)
        self._scheduler.give_back(again)

    def _check_idle(self, slot: Slot) -> bool:
        """Run the canary of an idle slot, and restart the slot if that fails; return False if it cannot be."""
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
        """Restart a slot that was lost for `reason`; return False if that failed twice or the engine is stopping."""
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
        """Start a slot; raises UnfitError if two attempts failed."""
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
        """Take a slot out for good; after the last one, all messages fail."""
        slot.retire()
        if not self.slots:
            for message in self._scheduler.close():
                message.fail(self._gone())


def _measure(batch: list[WindowTask], results: list[WindowResult], took: float) -> None:
    hooks.note("batch_windows", len(batch))
    hooks.note("batch_seconds", took)
    hooks.note("real_time_factor", took / sum(task.window.duration for task in batch))
    for result in results:
        accepted = result.decoding_pass.partition(" ")[0]  # without the temperature
        hooks.note("decoded_windows_total", decoding_pass=accepted)
        hooks.note("windows_total", look=accepted)  # deprecated in 0.2


def _lower_priority() -> None:
    """Give the calling thread a lower priority than the slots (on Linux every thread has its own niceness)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
