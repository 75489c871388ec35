"""Doubt what the model wrote: the signs that a window has to be looked at again, with more care.

A shortened encoder window makes Whisper loop now and then ("Please increase that limit. Please increase that limit."),
or stop before the speaker does. What is doubted is only looked at again, so the signs may be generous for a short look,
which is cheap to repeat; for a full one they are OpenAI's own, and that it ends where the speaker does.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass

COMPRESSION_RATIO = 2.4  # OpenAI's threshold for text that repeats itself
LOGPROB = -1.0  # OpenAI's threshold of the mean log-probability of a token
LOGPROB_SHORT = -0.7  # of a short look; 1 to 5 of 100 prompts fall under it
TOKENS_PER_SECOND = 8  # more than speech needs in the languages whose words Whisper's vocabulary holds
# More than speech needs where the vocabulary holds hardly more than the script's bytes. Measured with base's tokenizer
# on what espeak-ng speaks: Greek 10, Tamil 14, Hindi 16, Telugu 23, Bengali 26, Georgian 34 tokens a second.
TOKENS_PER_SECOND_SPELLED = 40
TOKENS_AT_LEAST = 12
WORDS_PER_SECOND = 6.0  # the fastest speakers stay under 5
WORDS_AT_LEAST = 4  # said in no time at all: the VAD's edges are not exact
SPARSE = 2.5  # words a second; of who speaks more slowly it is asked where the last word ends
UNTOLD = 0.8  # seconds of speech after the last word; whole texts stay under 0.6, those that stop early are over 1
SENTENCE = 1.5  # seconds of speech after the last word of a full look, which another window may hold
LONGEST_WORD = 3.0  # seconds of speech; an aligned word that fills more covers something left out
# Aligned words in a row that take no time: where a text repeats itself, a copy that nobody said. Beam search makes both
# short passes write the same extra copy of a phrase that was said twice.
INSTANT_WORDS = 3
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")  # with the apostrophes inside, straight or curly
_SPELLED = frozenset(
    "el hi mr ne sa bn as pa gu ta te kn ml si th lo my km ka hy am he yi ar fa ur ps sd bo tt ba tg kk mn".split()
)
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})  # written without blanks between words
_CHARACTERS_PER_WORD = 2.0  # in those


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


def budget(seconds: float, language: str, *, short: bool) -> int:
    """Return how many tokens a window of this length may take; a full look is the last, and cuts no language short."""
    rate = TOKENS_PER_SECOND if short and language not in _SPELLED else TOKENS_PER_SECOND_SPELLED
    return TOKENS_AT_LEAST + round(rate * seconds)


def doubt(
    draft: Draft,
    seconds: float,
    speech: float,
    *,
    longest_word: float = 0.0,
    untold: float = 0.0,
    instant: int = 0,
    earlier: Collection[Draft] = (),
    contested: bool = False,
) -> str | None:
    """Return why a decoding is not to be believed, or None.

    Args:
        draft: the decoding.
        seconds: length of the window.
        speech: how much of it the VAD takes for a voice (seconds).
        longest_word: how much speech its longest aligned word fills, where it was aligned (seconds).
        untold: how much speech follows its last aligned word, where it was aligned (seconds).
        instant: how many aligned words in a row take no time, where it was aligned.
        earlier: what other looks at the window wrote. A loop is the work of one look; what two repeat was said so.
        contested: whether two other looks agree on a text that repeats itself; a full look, too, must then leave no
            hole: Whisper likes to write down once what was said twice.
    """
    if len(draft.tokens) >= budget(seconds, draft.language, short=draft.short) - 1:
        return "too many tokens"
    agreed = instant < INSTANT_WORDS and any(_words(draft) == _words(one) for one in earlier)
    if compression_ratio(draft.text) > COMPRESSION_RATIO and not agreed:
        return "compressible"
    if draft.avg_logprob < (LOGPROB_SHORT if draft.short else LOGPROB):
        return "improbable"
    if untold > UNTOLD:
        return "speech after the last word"
    return _doubt_closely(draft, speech, longest_word, agreed=agreed) if draft.short or contested else None


def _doubt_closely(draft: Draft, speech: float, longest_word: float, *, agreed: bool) -> str | None:
    """Return what tells against a look at a shortened window, or one that others contradict."""
    if repeats(_words(draft)) and not agreed:
        return "a phrase repeated"
    if _count(draft) > WORDS_AT_LEAST + WORDS_PER_SECOND * speech:
        return "too many words"
    if longest_word > LONGEST_WORD:
        return "speech without words"
    return None


def omits(draft: Draft, longest_word: float, untold: float) -> bool:
    """Tell whether a full look leaves out what smaller windows would have: Whisper avoids saying a thing too often.

    It ends before the speaker does, or its text repeats itself around a hole.
    """
    if untold > SENTENCE:
        return True
    repeating = compression_ratio(draft.text) > COMPRESSION_RATIO or repeats(_words(draft))
    return repeating and longest_word > LONGEST_WORD


def sparse(draft: Draft, speech: float) -> bool:
    """Tell whether a text has so few words for its seconds of speech that it may have stopped before the speaker."""
    return _count(draft) < SPARSE * speech


def must_align(draft: Draft, speech: float) -> bool:
    """Return whether the times of its words are needed to judge a text: it is sparse, or it repeats itself."""
    return sparse(draft, speech) or repeats(_words(draft))


def compression_ratio(text: str) -> float:
    """Return how many times zlib shrinks the text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _words(draft: Draft) -> list[str]:
    return list(draft.text) if draft.language in _UNSPACED else _WORD.findall(draft.text.lower())


def _count(draft: Draft) -> float:
    return len(draft.text) / _CHARACTERS_PER_WORD if draft.language in _UNSPACED else len(_words(draft))


def repeats(words: list[str]) -> bool:
    """Tell whether a word or a phrase stands twice in a row: a loop, or said so, which another look will tell."""
    return any(
        words[at : at + size] == words[at + size : at + 2 * size]
        for size in range(1, len(words) // 2 + 1)
        for at in range(len(words) - 2 * size + 1)
    )
