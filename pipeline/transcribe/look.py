"""How much of its 30 s the encoder is shown, what fills the rest, and which model sizes bear less than all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FULL = 3000  # frames of 10 ms; what the encoder was trained on


@dataclass(frozen=True, slots=True)
class Look:
    """One way of decoding.

    `floor` and `margin` are frames: the encoder sees at least the first, and the second after the longest window. What
    is missing is filled with silence, as OpenAI trained it, or with zeros, as faster-whisper does: a loud hiss, which
    costs some words but breaks loops.
    """

    name: str
    floor: int = FULL
    margin: int = 0
    silence: bool = True
    beam_size: int = 1
    temperature: float = 0.0


AS_IT_COMES = Look("as it comes", silence=False)  # faster-whisper's own padding


BEAM = 5  # of a first pass for which no measurement allows a narrower one; faster-whisper's default


def _short(floor: int, beam_size: int) -> tuple[Look, ...]:
    """Return two passes over a shortened window: padded with silence, and with zeros if the first is rejected."""
    quick = Look("quick", floor=floor, margin=200, beam_size=beam_size)
    return quick, replace(quick, name="second", silence=False)


# The first passes by width of the model (d_model), for the sizes that keep their word error rate on less than 30 s.
# Measured by bench/engine.py accuracy; docs/benchmarks.md has the figures.
SHORT_LOOKS = {384: _short(1000, 2), 512: _short(1200, BEAM)}


def padded(feature: np.ndarray, frames: int, *, silence: bool) -> np.ndarray:
    """Pad a spectrogram with its own silence or with zeros, or cut it, to this many frames."""
    missing = frames - feature.shape[1]
    if missing <= 0:
        return feature[:, :frames]
    return np.pad(feature, ((0, 0), (0, missing)), constant_values=feature.min() if silence else 0.0)
