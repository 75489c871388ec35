"""Decode audio to samples: float32, mono, 16 kHz, in about one copy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import av
import numpy as np

from voicemill.errors import ErrorCode, JobError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SAMPLE_RATE = 16_000  # Hz; what speech models and the voice detector were trained on
_GROWTH = 60 * SAMPLE_RATE  # samples by which the buffer grows when the container's duration was too short


def load(data: bytes | Path) -> np.ndarray:
    """Decode `data` (the bytes of a file, or its path) to float32 samples of shape (n,), mono, 16 kHz, in -1 to 1.

    Hours of audio cost about one copy: frames are written into one array, sized from the container's duration.

    Raises:
        JobError: `undecodable`, the bytes hold no audio that can be read.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    try:
        with av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data), mode="r") as container:
            expected = (container.duration or 0) * SAMPLE_RATE // av.time_base
            samples, filled = np.empty(int(expected) + _GROWTH, np.float32), 0
            for frame in container.decode(audio=0):
                frame.pts = None  # the decode stage made the clock continuous: there is no gap to fill
                samples, filled = _append(samples, filled, resampler.resample(frame))
            samples, filled = _append(samples, filled, resampler.resample(None))
    except (av.FFmpegError, IndexError) as error:  # IndexError: no audio stream
        raise JobError(ErrorCode.UNDECODABLE, f"the handed-over audio cannot be read: {error}") from error
    return samples[:filled]


def check_samples(samples: np.ndarray) -> None:
    """Refuse what `load` would not return: a model turns such samples into nonsense, slowly.

    Raises:
        ValueError: `samples` are not finite float32 samples of shape (n,).
    """
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
        raise ValueError("audio takes a numpy array of float32 samples in -1 to 1, of shape (n,): mono, at 16 kHz")
    if not np.isfinite([samples.min(initial=0.0), samples.max(initial=0.0)]).all():
        raise ValueError("audio holds samples that are infinite or not a number")


def _append(samples: np.ndarray, filled: int, frames: Iterable[av.AudioFrame]) -> tuple[np.ndarray, int]:
    for frame in frames:
        part = frame.to_ndarray().reshape(-1)
        if filled + len(part) > len(samples):
            samples.resize(len(samples) + max(len(part), len(samples) // 4, _GROWTH), refcheck=False)
        samples[filled : filled + len(part)] = part
        filled += len(part)
    return samples, filled
