"""A message on its way through the engine: its windows, what came of them, and the future its sender waits on."""

from __future__ import annotations

from collections import deque
from concurrent.futures import InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.metrics import hooks
from voicemill.errors import JobError
from voicemill.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from pipeline.transcribe.child import SlotInfo
    from pipeline.transcribe.options import Options
    from pipeline.transcribe.window import Window, WindowResult

TELLING = 3  # windows at a message's start, of which the longest tells the language


@dataclass(slots=True, eq=False)
class Message:
    """A message in the engine. The scheduler's lock guards what changes: `options`, `waiting`, `held`, `results`."""

    options: Options
    windows: list[Window]
    duration: float
    future: Future[Transcript]
    on_progress: Callable[[int, int], None] | None = None
    waiting: deque[int] = field(default_factory=deque)  # indices of the windows that wait, in their order
    held: bool = False  # only the first waiting window may go, until it has told the language
    results: dict[int, WindowResult] = field(default_factory=dict)
    language_probability: float | None = None
    last_turn: float = 0.0  # on the monotonic clock (seconds)
    telling: bool = False  # whether a report of its progress is due

    def __post_init__(self) -> None:
        order = list(range(len(self.windows)))
        if self.options.language is None and order:
            self.held = True
            first = max(order[:TELLING], key=lambda index: self.windows[index].duration)
            order.insert(0, order.pop(first))
        self.waiting = deque(order)

    @property
    def ready(self) -> int:
        """How many windows may go now."""
        return min(1, len(self.waiting)) if self.held else len(self.waiting)

    def deliver(self, slot: SlotInfo, degraded: str | None) -> None:
        """Put the windows' results together and hand the transcript over."""
        results = [self.results[index] for index in sorted(self.results)]
        segments = tuple(segment for result in results for segment in result.segments)
        transcript = Transcript(
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
        hooks.note("audio_seconds_total", self.duration)
        with suppress(InvalidStateError):  # it was cancelled
            self.future.set_result(transcript)

    def fail(self, error: JobError) -> None:
        """Tell the sender why there is no transcript."""
        fail(self.future, error)


def fail(future: Future[Transcript], error: JobError) -> None:
    """Tell who waits why there is no transcript, unless it was cancelled or has failed before."""
    with suppress(InvalidStateError):
        future.set_exception(error)


@dataclass(slots=True)
class Task:
    """A window on its way; `failures` counts the batches that ended badly with it on board."""

    message: Message
    index: int
    failures: int = 0

    @property
    def window(self) -> Window:
        """The window itself."""
        return self.message.windows[self.index]
