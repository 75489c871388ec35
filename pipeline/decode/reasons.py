"""FFmpeg's own reasons, made fit for a job's record: short, each once, without addresses in memory or paths."""

from __future__ import annotations

import re

LENGTH = 300  # characters of a reason in a record
_CONTEXT = re.compile(r"\[([^\]@]+?) @ 0x[0-9a-f]+\]\s*")
_PATH = re.compile(r"(?:file:|pipe:|/)[^\s:'\"]*[:,]?\s*")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_NOISE = ("Last message repeated", "Estimating duration from bitrate", "Conversion failed")


def lines(said: str) -> list[str]:
    """Return the distinct lines of a program's standard error, cleaned."""
    found: dict[str, None] = {}
    for line in said.splitlines():
        text = _PATH.sub("", _CONTEXT.sub(lambda match: f"{match[1]}: ", _UNPRINTABLE.sub(" ", line))).strip()
        if text and not any(noise in text for noise in _NOISE):
            found[text] = None
    return list(found)


def reason(said: str) -> str:
    """Return why a program failed, in its own words: its first and its last ones, where they differ."""
    found = lines(said) or ["it gave no reason"]
    return "; ".join(dict.fromkeys((found[0], found[-1])))[:LENGTH]
