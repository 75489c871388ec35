"""Detect truncated files that FFmpeg decodes without an error."""

from __future__ import annotations

import os
from typing import BinaryIO

from pipeline.decode.convert import Converted
from pipeline.decode.probe import Sound

MISSING = 0.5  # seconds that decoded audio may lack of what the header promises: encoder delay, rounding, estimates
MISSING_SHARE = 0.02  # the same as a share of the promise
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes of the largest page (RFC 3533, section 6)
_END_OF_STREAM = 0x04  # bit of an Ogg page's header type


def cut_short(file: BinaryIO, sound: Sound, converted: Converted) -> str | None:
    """Return how the file shows that its end is missing; None: it does not."""
    if sound.container == "ogg" and not _ogg_has_end(file):
        return "its last page has no end mark"
    promised = sound.duration
    if promised and promised - converted.duration > max(MISSING, MISSING_SHARE * promised):
        return f"its header promises {promised:.1f} s, {converted.duration:.1f} s could be decoded"
    if any("partial file" in line or "truncat" in line.lower() for line in converted.complaints):
        return "FFmpeg ran over its end"
    return None


def _ogg_has_end(file: BinaryIO) -> bool:
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), 2 * _OGG_PAGE, max(0, size - 2 * _OGG_PAGE))
    last = tail.rfind(b"OggS")
    page = tail[last:]
    if last < 0 or len(page) < 27 or not page[5] & _END_OF_STREAM:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + len(segments) + sum(segments)
