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


def _short(floor: int) -> tuple[Look, ...]:
    """Return two looks at a shortened window: filled with silence, and with zeros where the first is doubted."""
    quick = Look("quick", floor=floor, margin=200)
    return quick, replace(quick, name="second", silence=False)


# What the encoder is shown, by the width of the model (d_model), for the sizes that keep their word error rate on less
# than 30 s. Word error rates of 281 prompts (2,970 words) in batches of like length, and one by one:
#   tiny.en: faster-whisper as it comes .0714; greedy at 1,000 frames .0707, .0731; at 1,200 .0700, .0700
#   base:    faster-whisper as it comes .0596; greedy at 1,000 frames .0717 (it loops); at 1,200 .0626, .0650;
#            with a beam of 2 at 1,200 .0630, .0623; of 5 .0609, .0596, and a sixth slower
#   base on a processor without VNNI, whose rounding is another: faster-whisper .0613; greedy at 1,200 .0653, .0640;
#            with a beam of 2 at 1,200 .0650, .0657, at 1,100 .0667 and at 1,000 .0673: the beam is not worth its 7 %
SHORT_LOOKS = {384: _short(1000), 512: _short(1200)}


def padded(feature: np.ndarray, frames: int, *, silence: bool) -> np.ndarray:
    """Pad a spectrogram with its own silence or with zeros, or cut it, to this many frames."""
    missing = frames - feature.shape[1]
    if missing <= 0:
        return feature[:, :frames]
    return np.pad(feature, ((0, 0), (0, missing)), constant_values=feature.min() if silence else 0.0)
