"""The interface that a speech engine implements to run behind Voicemill's scheduler.

A backend is two classes in one module, named by a line in `backends/__init__.py`:

- `Backend` lives in the process that owns the `Engine`. It finds the model's files and says what a slot needs. It is
  pickled and sent to every slot, so it holds settings only, and its module imports the speech engine's libraries inside
  functions.
- `Recognizer` is a loaded model. It lives in the process of one slot and is called by one thread.

Everything outside this package (scheduler, slots, windows, calibration, progress) uses these types alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from pipeline.transcribe.options import DecodingOptions
    from pipeline.transcribe.window import Window
    from voicemill.transcript import Segment

# Finds speech in float32 samples of shape (n,) at 16 kHz: the first sample and the one after the last of each stretch,
# in order and without overlap.
VoiceDetector = Callable[["np.ndarray"], Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """What the operator sets for all messages. A backend ignores what does not apply to it."""

    beam_size: int = 5  # of a fallback pass, where a message's options don't say
    encoder_window: str = "auto"  # or "full", or the least seconds of audio that the encoder is shown


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a loaded model can do. The engine refuses what it cannot before any work is spent.

    `longest_window` is how much audio a window should hold at most (seconds), `long_message_window` the same for
    messages that are cut in the background. A stretch of speech without a pause may exceed both; the limit that it
    cannot exceed is the voice detector's.
    """

    languages: frozenset[str]  # codes such as "ko"; never empty
    longest_window: float
    long_message_window: float
    tasks: frozenset[str] = frozenset({"transcribe"})  # "transcribe", "translate"
    word_times: bool = True

    @property
    def only_language(self) -> str | None:
        """The language of a model that knows no other; None for a multilingual model."""
        return next(iter(self.languages)) if len(self.languages) == 1 else None


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """A window to decode.

    `language` is the language of this window, or None if the backend must detect it. It overrides the language in
    `options`, which is what the sender asked for.
    """

    window: Window
    options: DecodingOptions
    language: str | None


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What was said in one window, with times on the message's clock.

    `language_probability` is 0 to 1, or None where the language was given. `decoding_pass` names the pass whose result
    was accepted, for the metric `decoded_windows_total`.
    """

    segments: tuple[Segment, ...]
    language: str
    language_probability: float | None
    decoding_pass: str = "quick"  # noqa: S105 - no password


class Recognizer(ABC):
    """A loaded model in a slot's process.

    Raise MemoryError, or an error whose text contains "out of memory", when a batch does not fit on the device: the
    engine retries with smaller batches. After any other error the process is replaced.
    """

    device: str  # "cpu" or "cuda": where the model really is
    compute_type: str
    capabilities: Capabilities

    @abstractmethod
    def run(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """Decode a batch of windows of any messages, and return a result for each, in order."""

    @abstractmethod
    def canary(self) -> None:
        """Decode something short to its end through all code that `run` may reach; raise if that fails."""

    @abstractmethod
    def trial(self) -> int:
        """Do the work of a typical batch and return its number of windows, for calibration."""


class Backend(ABC):
    """A speech engine before a model is loaded. Instances are picklable values."""

    @classmethod
    @abstractmethod
    def create(cls, model: str, settings: DecodingSettings) -> Self:
        """Return the backend for a model name; raises EngineError if the settings are invalid."""

    @abstractmethod
    def resolve(self, model: str, model_dir: str | Path | None) -> Path:
        """Return the folder or file of the model, fetched first if necessary.

        Raises:
            ModelError: the model is unknown, incomplete, damaged or out of reach.
        """

    @abstractmethod
    def weights_size(self, path: Path) -> int:
        """Return the size of the model's weights (bytes), from which the engine derives how many fit into memory."""

    @abstractmethod
    def library_version(self) -> str:
        """Return name and version of the speech engine; calibration is repeated when it changes."""

    @abstractmethod
    def voice_detector(self) -> VoiceDetector:
        """Return the function that finds speech, with what it imports loaded. It never returns a stretch too long."""

    @abstractmethod
    def load(self, path: Path, device: str, compute_type: str, threads: int) -> Recognizer:
        """Load the model; called once in each slot's process.

        Args:
            path: what `resolve` returned.
            device: `cuda` (the process sees one GPU) or `cpu`.
            compute_type: what the operator set, or `default_compute_type`.
            threads: of one operation on a CPU; 0 on a GPU.
        """

    def default_compute_type(self, device: str) -> str:
        """Return the arithmetic that `auto` stands for on `cuda` or `cpu`."""
        return {"cuda": "float16", "cpu": "int8"}[device]

    def preload(self, device: str) -> tuple[str, ...]:
        """Load shared libraries by full path before `load`, and return their paths."""
        del device
        return ()
