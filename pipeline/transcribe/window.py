"""Cut a message into windows: the speech in it, at most 30 s at a time, each on the message's own clock."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps

from config.bounds import ENCODER
from pipeline.transcribe.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicemill.transcript import Segment

# The VAD's onnxruntime, which is imported with the first message, would call Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

LONGEST = float(ENCODER)  # seconds
# Seconds kept around speech, since the voice detector cuts off soft beginnings and endings. With 0.2 s and a greedy
# first pass, the word error rate of base is 1.9 points worse than that of faster-whisper's beam 5 (240 prompts in
# French, Spanish, Italian and Russian); with 0.4 s and a beam of 5 it is 0.5 points better. Either change alone brings
# little.
MARGIN = 0.4
LONGEST_PAUSE = 2.0  # seconds; of a longer silence inside a window only MARGIN at either end is kept
_PORTION = 300 * SAMPLE_RATE  # samples that the VAD reads at a time, so that hours of audio need no second copy
_VAD = VadOptions(
    max_speech_duration_s=LONGEST - 2 * MARGIN,
    min_silence_duration_ms=160,
    speech_pad_ms=0,  # MARGIN is added when windows are cut
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the message that stands in a window: `at` seconds into the window's audio lies `start`."""

    at: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Window:
    """What the model looks at in one go.

    `audio` is float32 at 16 kHz, `pieces` say where in the message it comes from, `speech` holds the stretches, in
    seconds from the message's start, in which the VAD heard a voice.
    """

    audio: np.ndarray = field(repr=False)
    pieces: tuple[Piece, ...]
    speech: tuple[tuple[float, float], ...]

    @property
    def duration(self) -> float:
        """Seconds of audio in the window."""
        return len(self.audio) / SAMPLE_RATE

    @property
    def spoken(self) -> float:
        """Seconds in which the VAD hears a voice."""
        return sum(end - start for start, end in self.speech)

    def clock(self, at: float) -> float:
        """Return the message's time at `at` seconds into the window's audio."""
        piece = next((piece for piece in reversed(self.pieces) if piece.at <= at), self.pieces[0])
        return min(piece.start + at - piece.at, piece.end)


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What the model made of one window; `look` names the way of decoding that was good enough."""

    segments: tuple[Segment, ...]
    language: str
    language_probability: float | None
    look: str


def cut(audio: np.ndarray, longest: float = LONGEST) -> list[Window]:
    """Return the windows of a message, in order; none where the VAD hears no voice.

    Args:
        audio: float32 samples of shape (n,) at 16 kHz.
        longest: most seconds in a window.
    """
    groups: list[list[tuple[float, float]]] = []
    length = 0.0  # seconds of audio that the last group will hold
    for start, end in _speech(audio):
        pause = min(start - groups[-1][-1][1], LONGEST_PAUSE) if groups else 0.0
        if groups and length + pause + end - start <= longest:
            groups[-1].append((start, end))
            length += pause + end - start
        else:
            groups.append([(start, end)])
            length = end - start + 2 * MARGIN
    duration = len(audio) / SAMPLE_RATE
    limits = [0.0, *((one[-1][1] + two[0][0]) / 2 for one, two in pairwise(groups)), duration]
    return [_window(audio, group, *limits[index : index + 2]) for index, group in enumerate(groups)]


def halves(window: Window) -> tuple[Window, Window] | None:
    """Cut a window in two at the pause nearest the middle of what is said in it; None where it has no pause."""
    pauses = [(silence + voice) / 2 for (_, silence), (voice, _) in pairwise(window.speech)]
    if not pauses:
        return None
    middle = (window.speech[0][0] + window.speech[-1][1]) / 2
    border = min(pauses, key=lambda pause: abs(pause - middle))
    index = pauses.index(border)
    first, second = [], []
    for piece in window.pieces:
        if piece.start < border:
            first.append(replace(piece, end=min(piece.end, border)))
        if piece.end > border:
            start = max(piece.start, border)
            second.append(Piece(piece.at + start - piece.start, start, piece.end))
    cut_at = second[0].at
    samples = round(cut_at * SAMPLE_RATE)
    return (
        Window(window.audio[:samples], tuple(first), window.speech[: index + 1]),
        Window(
            window.audio[samples:],
            tuple(replace(piece, at=max(0.0, piece.at - cut_at)) for piece in second),
            window.speech[index + 1 :],
        ),
    )


def _window(audio: np.ndarray, speech: list[tuple[float, float]], earliest: float, latest: float) -> Window:
    """Make the window of these stretches of speech; its margins stay between `earliest` and `latest`."""
    spans: list[list[float]] = []
    for start, end in speech:
        if spans and start - spans[-1][1] <= LONGEST_PAUSE:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    pieces, parts, at = [], [], 0
    for start, end in spans:
        first = int(max(start - MARGIN, earliest) * SAMPLE_RATE)
        last = int(min(end + MARGIN, latest) * SAMPLE_RATE)
        pieces.append(Piece(at / SAMPLE_RATE, first / SAMPLE_RATE, last / SAMPLE_RATE))
        parts.append(audio[first:last])
        at += last - first
    return Window(parts[0] if len(parts) == 1 else np.concatenate(parts), tuple(pieces), tuple(speech))


def _speech(audio: np.ndarray) -> Iterator[tuple[float, float]]:
    """Yield the stretches of speech in seconds, reading a portion at a time and cutting only where nobody speaks."""
    begin = 0
    while begin < len(audio):
        portion = audio[begin : begin + _PORTION]
        found = [(begin + one["start"], begin + one["end"]) for one in get_speech_timestamps(portion, _VAD)]
        begin += len(portion)
        if found and begin < len(audio) and found[-1][0] > begin - len(portion):
            begin = found.pop()[0]  # it may go on: the next portion begins with it
        for start, end in found:
            yield start / SAMPLE_RATE, end / SAMPLE_RATE
