"""How loud the sound is, and whether it is silent, clipped, off centre or lost when its channels are mixed."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

FLOOR = -100.0  # dBFS that stands for digital silence; 16 bits reach down to -96
FULL_SCALE = 32767  # the largest 16-bit sample; FFmpeg clips at it and at -32768
CLIPPED = 0.001  # share of samples at full scale from which a recording counts as clipped
SILENT = -60.0  # dBFS: below it no sample of a recording is speech
# dB that the mix may lie below one channel alone among silent ones: two with the same voice inverted cost all.
LOST_IN_MIX = 3.0


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of a sound, in dB below full scale, and the channel that must be taken alone (None: mix them)."""

    rms_dbfs: float
    peak_dbfs: float
    dc_offset: float  # share of full scale
    clipped: bool
    silent: bool
    alone: int | None


def measure(pcm: bytes, channels: int, rate: int) -> Levels:
    """Measure interleaved 16-bit PCM, at most a minute of it.

    Args:
        pcm: samples, little-endian; an incomplete last frame is ignored.
        channels: how many are interleaved.
        rate: samples per second of each (Hz).
    """
    from pydub import AudioSegment  # noqa: PLC0415 - the import takes longer than decoding a short message

    frame = 2 * channels
    sound = AudioSegment(pcm[: len(pcm) // frame * frame], sample_width=2, frame_rate=rate, channels=channels)
    parts = sound.split_to_mono() if channels > 1 else [sound]
    centres = [part.get_dc_offset() for part in parts]
    loudness = [_decibels(_swing(part.rms, centre)) for part, centre in zip(parts, centres, strict=True)]
    rms, alone = max(loudness), None
    if channels > 1:
        mix = _decibels(_swing(_mix(parts).rms, sum(centres) / channels))
        if rms > SILENT and rms - mix > LOST_IN_MIX + 20 * math.log10(channels):
            alone = loudness.index(rms)
        elif channels == 2:  # of more FFmpeg's mix is louder: it knows where a voice is
            rms = mix
    peak = sound.max / FULL_SCALE
    centre = max(centres, key=abs)
    return Levels(
        rms_dbfs=round(rms, 1),
        peak_dbfs=round(_decibels(peak), 1),
        dc_offset=round(centre, 4),
        clipped=sound.max >= FULL_SCALE and _at_full_scale(sound.raw_data) > CLIPPED,  # the count is slow
        silent=_decibels(peak - abs(centre)) < SILENT,
        alone=alone,
    )


def _mix(parts: list[Any]) -> Any:
    """Return pydub's sound of all channels, each as loud as the others; its own way is a loop in Python beyond two."""
    quieter = 20 * math.log10(len(parts))
    mix = parts[0] - quieter
    for part in parts[1:]:
        mix = mix.overlay(part - quieter)
    return mix


def _swing(rms: float, centre: float) -> float:
    """Return the effective value around the centre, as a share of full scale; `rms` is in samples."""
    return math.sqrt(max(0.0, (rms / FULL_SCALE) ** 2 - centre**2))


def _decibels(share: float) -> float:
    return min(0.0, max(FLOOR, 20 * math.log10(share))) if share > 0 else FLOOR


def _at_full_scale(pcm: bytes) -> float:
    """Return the share of samples that lie at either end of the scale."""
    samples = array("h", pcm)
    return (samples.count(FULL_SCALE) + samples.count(-FULL_SCALE - 1)) / len(samples) if samples else 0.0
