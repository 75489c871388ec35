"""Decoding passes: how much of its 30 s the encoder is shown, what fills the rest, and how wide the beam is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FULL = 3000  # frames of 10 ms; what the encoder was trained on


@dataclass(frozen=True, slots=True)
class Pass:
    """One way of decoding a window.

    `floor` and `margin` are frames: the encoder sees at least `floor`, and at least `margin` more than the longest
    window of the batch. The rest is filled with silence, as OpenAI trained it, or with zeros, as faster-whisper does:
    a loud hiss, which costs some words but breaks loops.
    """

    name: str
    floor: int = FULL
    margin: int = 0
    silence: bool = True
    beam_size: int = 1
    temperature: float = 0.0


ZERO_PADDED = Pass("zero padded", silence=False)  # faster-whisper's own padding


BEAM = 5  # of a first pass for which no measurement allows a narrower one; faster-whisper's default


def _quick(floor: int, beam_size: int) -> tuple[Pass, ...]:
    """Return two passes over a shortened window: padded with silence, and with zeros if the first is rejected."""
    quick = Pass("quick", floor=floor, margin=200, beam_size=beam_size)
    return quick, replace(quick, name="second", silence=False)


# The first passes by width of the model (d_model), for the sizes that keep their word error rate on less than 30 s.
# Measured by bench/engine.py accuracy; docs/benchmarks.md has the figures.
QUICK_PASSES = {384: _quick(1000, 2), 512: _quick(1200, BEAM)}


def padded(feature: np.ndarray, frames: int, *, silence: bool) -> np.ndarray:
    """Return a spectrogram of exactly `frames` frames, cut, or padded with its own silence or with zeros."""
    missing = frames - feature.shape[1]
    if missing <= 0:
        return feature[:, :frames]
    return np.pad(feature, ((0, 0), (0, missing)), constant_values=feature.min() if silence else 0.0)
