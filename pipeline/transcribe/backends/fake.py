"""A deterministic backend for tests: it needs no model files and no speech library, and loads in milliseconds.

It understands audio that `say` made, in which two tones spell each byte of a text. What it returns depends on the audio
of the window and the options alone. Sound that spells nothing is one "hum" for every half second.

Words in angle brackets are not part of the text. `<ko>` sets the language that is detected. The others are commands:
`<abort>` kills the slot's process, `<hang>` takes an hour, `<slow>` a second, `<memory>` and `<fault>` raise.

A model's name may set the fields of `Fake`: `fake:languages=en+ko,delay=0.1,capacity=2`.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from pipeline.transcribe.audio import SAMPLE_RATE
from pipeline.transcribe.backends.base import Backend, Capabilities, Recognizer, WindowResult
from pipeline.transcribe.failures import EngineError
from pipeline.transcribe.window import MARGIN
from voicemill.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.transcribe.backends.base import DecodingSettings, VoiceDetector, WindowRequest
    from pipeline.transcribe.options import DecodingOptions

TONE = SAMPLE_RATE // 50  # samples of half a byte
FREQUENCIES = 400 + 150 * np.arange(16)  # Hz, one for each half byte; they pass a telephone line and lossy codecs
GAP = 3 * TONE  # samples of silence between words
LOUDNESS = 0.3  # amplitude; full scale is 1
FRAME = SAMPLE_RATE // 200  # samples whose loudness is measured
SILENCE = 0.01  # root mean square below which a frame is silent
PURITY = 0.5  # share of a tone's energy that must lie in its frequency
PAUSE = 0.16  # seconds of silence that end a stretch of speech; Silero's as Whisper uses it
LONG_PAUSE = 0.8  # seconds of silence that end a segment
LONGEST = 30.0  # seconds of a window that is one stretch of speech
HUM = SAMPLE_RATE // 2  # samples of other sound that are a word
MEMORY = 1 << 20  # bytes that a model is said to take
_TAG = re.compile(r"<(\w+)>")


def say(text: str) -> np.ndarray:
    """Return audio in which the fake backend hears `text`: float32 samples of shape (n,) at 16 kHz."""
    time_axis = np.arange(TONE) / SAMPLE_RATE
    tones = LOUDNESS * np.sin(2 * np.pi * FREQUENCIES[:, np.newaxis] * time_axis)
    parts = []
    for word in text.split():
        halves = [half for byte in word.encode() for half in (byte >> 4, byte & 15)]
        parts += [tones[halves].ravel(), np.zeros(GAP)]
    return np.concatenate([np.zeros(GAP), *parts]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Fake(Backend):
    """The fake backend; `delay` is how long a window takes (seconds), `capacity` the most windows in a batch."""

    languages: frozenset[str] = frozenset({"en", "de", "ko"})
    delay: float = 0.0
    capacity: int = 1000

    @classmethod
    def create(cls, model: str, settings: DecodingSettings) -> Self:
        """Return the backend that a model's name describes; raises EngineError if it cannot be parsed."""
        del settings
        parsers: dict[str, Callable[[str], object]] = {
            "languages": lambda value: frozenset(value.split("+")),
            "delay": float,
            "capacity": int,
        }
        pairs = [field.partition("=") for field in model.partition(":")[2].split(",") if field]
        try:
            return cls(**{name: parsers[name](value) for name, _, value in pairs})  # type: ignore[arg-type]
        except (KeyError, ValueError):
            raise EngineError(f"model is {model!r}: fake takes {', '.join(parsers)}, as in fake:delay=0.1.") from None

    def resolve(self, model: str, model_dir: str | Path | None) -> Path:
        """Return this module's file: there is no model."""
        del model, model_dir
        return Path(__file__)

    def weights_size(self, path: Path) -> int:
        """Return a nominal size (bytes)."""
        del path
        return MEMORY

    def library_version(self) -> str:
        """Return the version of this module's behaviour."""
        return "fake 1"

    def voice_detector(self) -> VoiceDetector:
        """Return a detector of everything that is not silence."""
        return detect

    def load(self, path: Path, device: str, compute_type: str, threads: int) -> Recognizer:
        """Return the recognizer; there is nothing to load."""
        del path, threads
        return FakeRecognizer(self, device, compute_type)


class FakeRecognizer(Recognizer):
    """The fake in a slot's process."""

    def __init__(self, fake: Fake, device: str, compute_type: str) -> None:
        self.device, self.compute_type = device, compute_type
        self._fake = fake
        self.capabilities = Capabilities(
            fake.languages,
            longest_window=20.0,
            long_message_window=15.0,
            tasks=frozenset({"transcribe", "translate"} if len(fake.languages) > 1 else {"transcribe"}),
        )

    def run(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """Return what each window spells, after carrying out the commands in all of them."""
        if len(requests) > self._fake.capacity:
            raise MemoryError(f"out of memory: {len(requests)} windows, and {self._fake.capacity} fit")
        time.sleep(self._fake.delay * len(requests))
        heard = [list(hear(request.window.audio)) for request in requests]
        for tag in [tag for words in heard for _, _, word in words for tag in _TAG.findall(word)]:
            _obey(tag)
        return [self._result(request, words) for request, words in zip(requests, heard, strict=True)]

    def canary(self) -> None:
        """Hear a sentence."""
        said = "The canary sings."
        if (heard := " ".join(word for _, _, word in hear(say(said)))) != said:
            raise RuntimeError(f"the canary's text is {heard!r}")

    def trial(self) -> int:
        """Take as long as one window does."""
        time.sleep(self._fake.delay)
        self.canary()
        return 1

    def _result(self, request: WindowRequest, heard: list[tuple[float, float, str]]) -> WindowResult:
        tags = [tag for _, _, word in heard for tag in _TAG.findall(word)]
        known = [tag for tag in tags if tag in self._fake.languages]
        language = request.language or next(iter(known), "en" if "en" in self._fake.languages else None)
        words = [
            Word(request.window.clock(start), request.window.clock(end), f" {_spelled(word, request.options)}", 0.9)
            for start, end, word in heard
            if not _TAG.fullmatch(word)
        ]
        return WindowResult(
            _segments(words, request.options),
            language or min(self._fake.languages),
            None if request.language else 0.9,
        )


def hear(audio: np.ndarray) -> Iterator[tuple[float, float, str]]:
    """Yield start and end (seconds) and text of each word."""
    for start, end in _loud(audio, pause=0.5 * GAP / SAMPLE_RATE):
        text = _text(audio[start:end])
        if text is not None:
            yield start / SAMPLE_RATE, end / SAMPLE_RATE, text
            continue
        for at in range(start, end, HUM):
            yield at / SAMPLE_RATE, min(at + HUM, end) / SAMPLE_RATE, "hum"


def detect(samples: np.ndarray) -> list[tuple[int, int]]:
    """Return the stretches that are not silent; a `VoiceDetector`."""
    most = int((LONGEST - 2 * MARGIN) * SAMPLE_RATE)
    found: list[tuple[int, int]] = []
    for start, end in _loud(samples, pause=0.0):
        if found and start - found[-1][1] < PAUSE * SAMPLE_RATE and end - found[-1][0] <= most:
            found[-1] = (found[-1][0], end)
        else:
            found += [(at, min(at + most, end)) for at in range(start, end, most)]
    return found


def _loud(samples: np.ndarray, pause: float) -> list[tuple[int, int]]:
    """Return the first sample and the one after the last of each stretch without `pause` seconds of silence."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    loud = np.sqrt(np.mean(frames**2, axis=1)) > SILENCE
    edges = np.flatnonzero(np.diff(loud, prepend=False, append=False)) * FRAME
    found: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if found and start - found[-1][1] < pause * SAMPLE_RATE:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _text(sound: np.ndarray) -> str | None:
    """Return the word that tones spell, or None if they are no such tones."""
    length = 2 * round(len(sound) / TONE / 2)
    middles = [sound[round((at + 0.2) * TONE) : round((at + 0.2) * TONE) + TONE * 3 // 5] for at in range(length)]
    if not middles or len(middles[-1]) < TONE * 3 // 5:
        return None
    tones = np.stack(middles)
    waves = np.exp(-2j * np.pi * FREQUENCIES[:, np.newaxis] * np.arange(tones.shape[1]) / SAMPLE_RATE)
    power = np.abs(tones @ waves.T) ** 2
    purity = 2 * power.max(axis=1) / (tones.shape[1] * np.maximum(np.sum(tones**2, axis=1), 1e-9))
    if purity.mean() < PURITY:
        return None
    halves = power.argmax(axis=1).tolist()
    try:
        text = bytes(16 * high + low for high, low in zip(halves[::2], halves[1::2], strict=True)).decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _obey(tag: str) -> None:
    """Carry out a command; a language is none."""
    if tag == "abort":
        os.abort()
    if tag == "hang":
        time.sleep(3600)
    if tag == "slow":
        time.sleep(1)
    if tag == "memory":
        raise MemoryError("the fake's memory is full")
    if tag == "fault":
        raise RuntimeError("an illegal memory access was encountered")


def _spelled(word: str, options: DecodingOptions) -> str:
    """Return a word as prompt and hotwords spell it, and in capitals where it is translated."""
    expected = f"{options.prompt or ''} {options.hotwords or ''}".split()
    word = next((one for one in expected if one.lower() == word.lower()), word)
    return word.upper() if options.task == "translate" else word


def _segments(words: list[Word], options: DecodingOptions) -> tuple[Segment, ...]:
    """Cut words into segments at the ends of sentences and at long pauses."""
    groups: list[list[Word]] = [words[:1]] if words else []
    for before, word in pairwise(words):
        if before.word.endswith((".", "?", "!")) or word.start - before.end >= LONG_PAUSE:
            groups.append([])
        groups[-1].append(word)
    return tuple(
        Segment(
            start=group[0].start,
            end=group[-1].end,
            text="".join(word.word for word in group).strip(),
            avg_logprob=-0.1,
            no_speech_prob=0.0,
            words=tuple(group) if options.word_timestamps else None,
        )
        for group in groups
    )
