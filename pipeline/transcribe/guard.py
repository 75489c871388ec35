"""Doubt what the model wrote: the signs that a window has to be looked at again, with more care."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

COMPRESSION_RATIO = 2.4  # OpenAI's threshold for text that repeats itself
LOGPROB = -1.0  # OpenAI's threshold of the mean log-probability of a token
LOGPROB_SHORT = -0.7  # for a shortened window, which is cheap to look at again
TOKENS_PER_SECOND = 8  # more than any speech needs; a decoding that reaches this budget is a loop
TOKENS_AT_LEAST = 12
WORDS_PER_SECOND = 6.0  # the fastest speakers stay under 5
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")  # with the apostrophes inside, straight or curly


@dataclass(frozen=True, slots=True)
class Draft:
    """One decoding of one window, before it is believed."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str
    language_probability: float | None
    short: bool  # the encoder saw less than 30 s


def budget(seconds: float) -> int:
    """Return how many tokens a window of this length may take."""
    return TOKENS_AT_LEAST + round(TOKENS_PER_SECOND * seconds)


def doubt(draft: Draft, seconds: float) -> str | None:
    """Return why this decoding of `seconds` of audio is not to be believed, or None."""
    words = _WORD.findall(draft.text.lower())
    if len(draft.tokens) >= budget(seconds) - 1:
        return "too many tokens"
    if draft.avg_logprob < (LOGPROB_SHORT if draft.short else LOGPROB):
        return "improbable"
    if compression_ratio(draft.text) > COMPRESSION_RATIO:
        return "compressible"
    if draft.short and len(words) > 4 + WORDS_PER_SECOND * seconds:
        return "too many words"
    if draft.short and repeats(words):
        return "a phrase repeated"
    return None


def compression_ratio(text: str) -> float:
    """Return how many times zlib shrinks the text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def repeats(words: list[str]) -> bool:
    """Tell whether three or more words stand twice in a row, which a loop does, and a speaker rarely."""
    return any(
        words[at : at + size] == words[at + size : at + 2 * size]
        for size in range(3, len(words) // 2 + 1)
        for at in range(len(words) - 2 * size + 1)
    )
