"""Cut a message into windows: the speech in it, at most 30 s at a time, each on the message's own clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipeline.transcribe.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.transcribe.backends.base import VoiceDetector

# Seconds kept around speech, since voice detectors cut off soft beginnings and endings. With 0.2 s and a greedy
# first pass, the word error rate of base is 1.9 points worse than that of faster-whisper's beam 5 (240 prompts in
# French, Spanish, Italian and Russian); with 0.4 s and a beam of 5 it is 0.5 points better. Either change alone brings
# little.
MARGIN = 0.4
LONGEST_PAUSE = 2.0  # seconds; of a longer silence inside a window only MARGIN at either end is kept
PORTION = 300 * SAMPLE_RATE  # samples that a voice detector gets at a time, so that hours of audio need no second copy


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the message, from `start` to `end`, that begins `at` seconds into a window's audio."""

    at: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a message that a model decodes at once.

    `audio` is float32 at 16 kHz, `pieces` say where in the message it comes from, and `speech` holds the stretches of
    speech, in seconds from the message's start. `channel` is the message's channel that the audio is from.
    """

    audio: np.ndarray = field(repr=False)
    pieces: tuple[Piece, ...]
    speech: tuple[tuple[float, float], ...]
    channel: int = 0

    @property
    def duration(self) -> float:
        """Seconds of audio in the window."""
        return len(self.audio) / SAMPLE_RATE

    @property
    def spoken(self) -> float:
        """Seconds of speech in the window."""
        return sum(end - start for start, end in self.speech)

    def clock(self, at: float) -> float:
        """Return the message's time at `at` seconds into the window's audio."""
        piece = next((piece for piece in reversed(self.pieces) if piece.at <= at), self.pieces[0])
        return min(piece.start + at - piece.at, piece.end)


def cut(audio: np.ndarray, longest: float, detect: VoiceDetector) -> list[Window]:
    """Return the windows of a message, in order; none if it holds no speech.

    Args:
        audio: float32 samples of shape (n,) at 16 kHz.
        longest: most seconds in a window of several stretches of speech.
        detect: finds the speech.
    """
    groups: list[list[tuple[float, float]]] = []
    length = 0.0  # seconds of audio that the last group will hold
    for start, end in speech(audio, detect):
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
    """Return the two halves of a window, cut at the pause nearest the middle of its speech; None without a pause."""
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
        Window(window.audio[:samples], tuple(first), window.speech[: index + 1], window.channel),
        Window(
            window.audio[samples:],
            tuple(replace(piece, at=max(0.0, piece.at - cut_at)) for piece in second),
            window.speech[index + 1 :],
            window.channel,
        ),
    )


def _window(audio: np.ndarray, stretches: list[tuple[float, float]], earliest: float, latest: float) -> Window:
    """Return the window of these stretches of speech; its margins stay between `earliest` and `latest`."""
    spans: list[list[float]] = []
    for start, end in stretches:
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
    return Window(parts[0] if len(parts) == 1 else np.concatenate(parts), tuple(pieces), tuple(stretches))


def speech(audio: np.ndarray, detect: VoiceDetector, portion: int = PORTION) -> Iterator[tuple[float, float]]:
    """Yield the stretches of speech (seconds).

    The detector gets `portion` samples at a time. A stretch that reaches the end of a portion starts the next one, so
    that speech is not cut there.
    """
    begin = 0
    while begin < len(audio):
        part = audio[begin : begin + portion]
        found = [(begin + start, begin + end) for start, end in detect(part)]
        begin += len(part)
        if found and begin < len(audio) and found[-1][0] > begin - len(part):
            begin = found.pop()[0]  # it may go on: the next portion begins with it
        for start, end in found:
            yield start / SAMPLE_RATE, end / SAMPLE_RATE
