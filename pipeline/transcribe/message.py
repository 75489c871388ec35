"""A message in the engine: its windows, their results, and the future that its sender waits for."""

from __future__ import annotations

from collections import deque
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.metrics import hooks
from pipeline.transcribe.backends.base import WindowRequest
from voicemill.errors import JobError
from voicemill.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import numpy as np

    from pipeline.transcribe.backends.base import WindowResult
    from pipeline.transcribe.child import SlotInfo
    from pipeline.transcribe.options import DecodingOptions
    from pipeline.transcribe.window import Window

LANGUAGE_WINDOWS = 3  # windows at a message's start; the language is detected in the longest of them


@dataclass(slots=True, eq=False)
class Message:
    """A message in the engine.

    The scheduler's lock guards `options`, `waiting`, `held` and `results`. `audio` is kept for post-processing only.
    """

    options: DecodingOptions
    windows: list[Window]
    duration: float
    future: Future[Transcript]
    on_progress: Callable[[int, int], None] | None = None
    audio: np.ndarray | None = None
    waiting: deque[int] = field(default_factory=deque)  # indices of the windows that wait, in order
    held: bool = False  # until the language is known, only the first waiting window is decoded
    results: dict[int, WindowResult] = field(default_factory=dict)
    language_probability: float | None = None
    last_turn: float = 0.0  # on the monotonic clock (seconds)
    reporting: bool = False  # whether a progress report is queued

    def __post_init__(self) -> None:
        order = list(range(len(self.windows)))
        if self.options.language is None and order:
            self.held = True
            first = max(order[:LANGUAGE_WINDOWS], key=lambda index: self.windows[index].duration)
            order.insert(0, order.pop(first))
        self.waiting = deque(order)

    @property
    def ready(self) -> int:
        """How many windows can be decoded now."""
        return min(1, len(self.waiting)) if self.held else len(self.waiting)

    def transcript(self, slot: SlotInfo, degraded: str | None) -> Transcript:
        """Join the results of the windows."""
        results = [self.results[index] for index in sorted(self.results)]
        segments = tuple(segment for result in results for segment in result.segments)
        return Transcript(
            text=" ".join(segment.text for segment in segments),
            language=self.options.language,
            language_probability=self.language_probability,
            duration=self.duration,
            model=slot.model,
            device=slot.device,
            compute_type=slot.compute_type,
            segments=segments,
            no_speech=not segments,
            degraded=degraded,
        )

    def deliver(self, transcript: Transcript) -> None:
        """Hand the transcript to the sender."""
        hooks.note("audio_seconds_total", self.duration)
        with suppress(InvalidStateError):  # it was cancelled
            self.future.set_result(transcript)

    def fail(self, error: JobError) -> None:
        """Hand the sender the reason why there is no transcript."""
        fail(self.future, error)


def fail(future: Future[Transcript], error: JobError) -> None:
    """Set the exception of a message's future, unless it was cancelled or has failed before."""
    with suppress(InvalidStateError):
        future.set_exception(error)


@dataclass(slots=True)
class WindowTask:
    """A window to decode; `failures` counts the failed batches that it was part of."""

    message: Message
    index: int
    failures: int = 0

    @property
    def window(self) -> Window:
        """The window itself."""
        return self.message.windows[self.index]

    @property
    def request(self) -> WindowRequest:
        """What the backend gets; the language is known once one window of the message has been decoded."""
        return WindowRequest(self.window, self.message.options, self.message.options.language)
