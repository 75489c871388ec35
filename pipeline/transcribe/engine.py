"""The engine: the face over the scheduler and the slots. Messages in, transcripts out, from any number of threads."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from pipeline.errors import JobError
from pipeline.transcribe import devices, models
from pipeline.transcribe.audio import SAMPLE_RATE
from pipeline.transcribe.child import SlotInfo
from pipeline.transcribe.failures import DiedError, EngineError, HungError, OutOfMemoryError, UnfitError
from pipeline.transcribe.options import Options
from pipeline.transcribe.scheduler import Message, Scheduler, Task
from pipeline.transcribe.slot import START_TIMEOUT, Slot
from pipeline.transcribe.transcript import Transcript
from pipeline.transcribe.window import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from pipeline.transcribe.window import WindowResult

__all__ = ["Engine", "SlotInfo"]

MOST_FAILURES = 2  # batches that may end badly with a window on board before its message is given up
BATCH = {"cpu": 8, "cuda": 16}  # windows; on a CPU more bring nothing, on a GPU they are halved where memory ends
IDLE = 60.0  # seconds after which an idle slot proves itself again
STOPPED = "worker_stopped"

log = structlog.get_logger(__name__)


class Engine:
    """A set of slots, each a process with the model on one device, and the messages that wait for them.

    Args:
        model: a folder, a name from the model hub, `bundled:tiny.en` or `bundled:base`.
        device: `cuda`, `cpu`, or `auto`: a GPU where one is visible.
        compute_type: CTranslate2's name, or `auto`: float16 on a GPU, int8 on a CPU.
        model_dir: where fetched models are kept.
        beam_size: of the second look at doubtful windows, where a message does not say.
        replicas: processes on a CPU; 0: chosen from the cores and the memory.
        gpus: `all`, or indices of visible GPUs such as `0,1`.
        timeout: constant part of a batch's time limit (seconds); four times its audio is added.
        encoder_window: `auto`, `full`, or the least seconds of audio that the encoder is shown.
        degraded: the reason why this engine runs on a CPU though a GPU was wanted; it marks every transcript.

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
        self._scheduler = Scheduler()
        self._batch = BATCH[specs[0].device]
        self._lock = threading.Lock()
        self._slots = [Slot(spec, timeout) for spec in specs]
        self._ready: list[Future[SlotInfo]] = [Future() for _ in specs]
        self._threads = [
            threading.Thread(target=self._serve, args=pair, name=f"slot-{index}", daemon=True)
            for index, pair in enumerate(zip(self._slots, self._ready, strict=True))
        ]
        for thread in self._threads:
            thread.start()
        failures = [error for ready in self._ready if (error := ready.exception(timeout=START_TIMEOUT + 60))]
        if len(failures) == len(specs):
            self.stop(0)
            raise EngineError(f"No slot could be started: {failures[0]}") from failures[0]
        self._multilingual = self.slots[0].multilingual

    @property
    def slots(self) -> list[SlotInfo]:
        """The slots that take work, each as its process proved itself last."""
        with self._lock:
            return [slot.info for slot in self._slots if slot.info is not None]

    @property
    def alive(self) -> bool:
        """Whether any slot is left."""
        return any(thread.is_alive() for thread in self._threads)

    def transcribe(self, audios: Sequence[np.ndarray], options: Sequence[Options] | None = None) -> list[Transcript]:
        """Transcribe several messages and wait for all of them.

        Args:
            audios: float32 samples of shape (n,) at 16 kHz each.
            options: one for each; None: the defaults for all.

        Raises:
            JobError: of the first message that failed.
        """
        wishes = options if options is not None else [Options()] * len(audios)
        futures = [self.submit(audio, wish) for audio, wish in zip(audios, wishes, strict=True)]
        return [future.result() for future in futures]

    def submit(
        self, audio: np.ndarray, options: Options, on_progress: Callable[[int, int], None] | None = None
    ) -> Future[Transcript]:
        """Take a message in and return the future of its transcript; its silences are found in the calling thread.

        Args:
            audio: float32 samples of shape (n,) at 16 kHz.
            options: what is wanted.
            on_progress: called with the windows done and their number, from the engine's threads; it must be quick.

        Returns:
            A future whose exception, if any, is a JobError. Cancelling it drops the windows that still wait.
        """
        future: Future[Transcript] = Future()
        try:
            options = self._checked(options, len(audio) / SAMPLE_RATE)
        except JobError as error:
            future.set_exception(error)
            return future
        windows = cut(audio)
        held = options.language is None
        message = Message(
            options, windows, len(audio) / SAMPLE_RATE, future, on_progress, deque(range(len(windows))), held
        )
        if not windows:
            self._deliver(message)
        elif not self._scheduler.add(message):
            future.set_exception(self._gone())
        return future

    def stop(self, timeout: float = 30.0) -> None:
        """Let running batches finish within `timeout` seconds; what still waits fails with `worker_stopped`."""
        gone = self._gone()
        unfinished = self._scheduler.close()
        for thread in self._threads:
            thread.join(timeout)
        for slot in self._slots:
            slot.stop()
        for message in unfinished:
            _fail(message, gone)

    def _checked(self, options: Options, duration: float) -> Options:
        """Return the options with the language that the model will use, or refuse them before work is spent."""
        if options.max_duration is not None and duration > options.max_duration:
            raise JobError("too_long", f"the message lasts {duration:.0f} s, allowed are {options.max_duration:.0f} s")
        if self._multilingual:
            return options
        if options.language not in (None, "en") or options.task != "transcribe":
            wanted = options.task if options.task != "transcribe" else f"language {options.language!r}"
            raise JobError(
                "invalid_options", f"the model {self.slots[0].model} knows English only: it cannot do {wanted}"
            )
        return replace(options, language="en")

    def _gone(self) -> JobError:
        if self.alive:
            return JobError(STOPPED, "the worker was told to stop before the message's turn")
        return JobError("gpu_unfit", "no device of this worker can run the model any more")

    def _serve(self, slot: Slot, ready: Future[SlotInfo]) -> None:
        """Start a slot and feed it until the engine stops or the slot is beyond help: the life of a slot's thread."""
        try:
            ready.set_result(slot.start())
        except UnfitError as error:
            log.critical("slot unfit", device_name=slot.spec.device_name, reason=str(error))
            ready.set_exception(error)
            return
        while (batch := self._scheduler.take(self._batch, IDLE)) is not None:
            if batch and not self._run(slot, batch):
                self._retire(slot)
                return

    def _run(self, slot: Slot, batch: list[Task]) -> bool:
        """Have a batch decoded and see to its outcome; False when the slot is beyond help."""
        try:
            results = slot.run([(task.window, task.message.options) for task in batch])
        except OutOfMemoryError as error:
            self._batch = max(1, min(self._batch, len(batch)) // 2)
            log.warning("out of memory", windows=len(batch), batch_from_now_on=self._batch)
            self._try_again(batch, JobError("out_of_memory", str(error)), charged=len(batch) == 1)
            return True
        except (DiedError, HungError) as error:
            code = "transcribe_crashed" if isinstance(error, DiedError) else "transcribe_timeout"
            log.warning("slot lost", device_name=slot.spec.device_name, windows=len(batch), reason=str(error))
            self._try_again(batch, JobError(code, f"{error} at this message"), charged=True)
            return self._restart(slot)
        except UnfitError as error:
            log.critical("slot unfit", device_name=slot.spec.device_name, reason=str(error))
            self._try_again(batch, JobError("gpu_unfit", str(error)), charged=False)
            return False
        for task, result in zip(batch, results, strict=True):
            self._finish(task, result)
        return True

    def _finish(self, task: Task, result: WindowResult) -> None:
        message = task.message
        last = self._scheduler.finish(task, result, replace(message.options, language=result.language))
        if message.on_progress is not None:
            try:
                message.on_progress(len(message.results), len(message.windows))
            except Exception:  # a caller's bar must not cost a slot its thread
                log.exception("progress could not be told")
        if last:
            self._deliver(message)

    def _try_again(self, batch: list[Task], error: JobError, *, charged: bool) -> None:
        """Give the windows of a batch that ended badly back; those that were on board too often fail their message."""
        again = []
        for task in batch:
            task.failures += charged
            if task.failures < MOST_FAILURES:
                again.append(task)
            else:
                self._scheduler.drop(task.message)
                _fail(task.message, error)
        self._scheduler.give_back(again)

    def _restart(self, slot: Slot) -> bool:
        try:
            slot.start()
        except UnfitError as error:
            log.critical("slot unfit", device_name=slot.spec.device_name, reason=str(error))
            return False
        return True

    def _retire(self, slot: Slot) -> None:
        """Take a slot out; with the last one go all messages."""
        slot.stop()
        with self._lock:
            slot.info = None
            left = any(one.info is not None for one in self._slots)
        if not left:
            for message in self._scheduler.close():
                _fail(message, JobError("gpu_unfit", "no device of this worker can run the model any more"))

    def _deliver(self, message: Message) -> None:
        """Put the windows' results together and hand the transcript over."""
        results = [message.results[index] for index in sorted(message.results)]
        segments = tuple(segment for result in results for segment in result.segments)
        slot = self.slots[0]
        transcript = Transcript(
            text=" ".join(segment.text for segment in segments),
            language=results[0].language if results else message.options.language,
            language_probability=results[0].language_probability if results else None,
            duration=message.duration,
            model=slot.model,
            device=slot.device,
            compute_type=slot.compute_type,
            segments=segments,
            no_speech=not segments,
            degraded=self._degraded,
        )
        with suppress(InvalidStateError):  # it was cancelled
            message.future.set_result(transcript)


def _fail(message: Message, error: JobError) -> None:
    with suppress(InvalidStateError):  # it was cancelled, or failed before
        message.future.set_exception(error)
