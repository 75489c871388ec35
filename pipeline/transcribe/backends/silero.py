"""Silero's voice detector, as faster-whisper ships it. Any backend whose models need speech cut out can use it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from faster_whisper.vad import VadOptions, get_speech_timestamps

from pipeline.transcribe.window import MARGIN

if TYPE_CHECKING:
    import numpy as np

    from pipeline.transcribe.backends.base import VoiceDetector

# onnxruntime, which the first call imports, would send telemetry to Microsoft.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def detector(longest: float) -> VoiceDetector:
    """Return a detector whose stretches fit into a window of `longest` seconds, margins included."""
    options = VadOptions(
        max_speech_duration_s=longest - 2 * MARGIN,
        min_silence_duration_ms=160,
        speech_pad_ms=0,  # MARGIN is added when windows are cut
    )

    def detect(samples: np.ndarray) -> list[tuple[int, int]]:
        return [(one["start"], one["end"]) for one in get_speech_timestamps(samples, options)]

    return detect
