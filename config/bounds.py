"""Bounds of the engine's options, for the settings and for programs that use the engine as a library."""

from __future__ import annotations

import re

BEAMS = 16  # the largest beam
ENCODER = 30  # seconds of audio, the most that Whisper's encoder takes


def check_encoder_window(value: str) -> str:
    """Return `auto`, `full`, or the text of a number of seconds, as it came; raises ValueError, which says so."""
    try:
        known = value in ("auto", "full") or 1 <= float(value) <= ENCODER
    except ValueError:
        known = False
    if not known:
        raise ValueError(f"takes auto, full, or seconds from 1 to {ENCODER}")
    return value


def check_gpus(value: str) -> str:
    """Return `all`, or the text of a list of indices, as it came; raises ValueError, which says so."""
    if not re.fullmatch(r"all|[0-9]+( *, *[0-9]+)*", value):
        raise ValueError("takes all, or indices of GPUs such as 0,1")
    return value
