"""Splits a transcript that is too long for one request at the ends of sentences."""

from __future__ import annotations

import re

_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
BYTES_A_TOKEN = 3  # of UTF-8: English has about four, Korean or Arabic about three


def estimate(text: str) -> int:
    """Return an estimate of the tokens in `text` that is too high rather than too low."""
    return len(text.encode()) // BYTES_A_TOKEN + 1


def split(text: str, count: int) -> list[str]:
    """Return `text` as about `count` parts of similar length, split between sentences where possible."""
    target = max(1, -(-len(text) // count))  # characters
    parts = [""]
    for sentence in _END.split(text):
        for piece in _pieces(sentence.strip(), target):
            if parts[-1] and len(parts[-1]) + len(piece) > target:
                parts.append("")
            parts[-1] = f"{parts[-1]} {piece}".strip()
    return [part for part in parts if part]


def _pieces(sentence: str, target: int) -> list[str]:
    """Return a sentence as pieces of at most `target` characters, split at spaces or, without spaces, anywhere."""
    pieces = []
    while len(sentence) > target:
        cut = sentence.rfind(" ", 0, target + 1)
        cut = cut if cut > target // 2 else target
        pieces.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*pieces, sentence] if sentence else pieces
