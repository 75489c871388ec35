"""Post-processing: steps that get the finished transcript and the message's audio, such as naming the speakers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from voicemill.transcript import Transcript

if TYPE_CHECKING:
    import numpy as np

# Takes a transcript and its message's audio (float32 samples of shape (n,) at 16 kHz), and returns another transcript.
PostProcessor = Callable[[Transcript, "np.ndarray"], Transcript]

log = structlog.get_logger(__name__)


def apply(steps: Sequence[PostProcessor], transcript: Transcript, audio: np.ndarray) -> Transcript:
    """Apply the steps in order. One that raises is logged and skipped, so that the transcript is not lost."""
    for step in steps:
        try:
            transcript = step(transcript, audio)
        except Exception:
            log.exception("post-processing step failed", step=getattr(step, "__name__", repr(step)))
    return transcript
