"""Clean up FFmpeg's error messages for a job's record: short, without repetitions, memory addresses and paths."""

from __future__ import annotations

import re

LENGTH = 300  # characters of a reason in a record
_CONTEXT = re.compile(r"\[([^\]@]+?) @ 0x[0-9a-f]+\]\s*")
_PATH = re.compile(r"(?:file:|pipe:|/)[^\s:'\"]*[:,]?\s*")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_NOISE = ("Last message repeated", "Estimating duration from bitrate", "Conversion failed")


def lines(errors: str) -> list[str]:
    """Return the distinct lines of a program's standard error, cleaned."""
    found: dict[str, None] = {}
    for line in errors.splitlines():
        text = _PATH.sub("", _CONTEXT.sub(lambda match: f"{match[1]}: ", _UNPRINTABLE.sub(" ", line))).strip()
        if text and not any(noise in text for noise in _NOISE):
            found[text] = None
    return list(found)


def reason(errors: str) -> str:
    """Return why a program failed: the first and the last line of its standard error, if they differ."""
    found = lines(errors) or ["it gave no reason"]
    return "; ".join(dict.fromkeys((found[0], found[-1])))[:LENGTH]
