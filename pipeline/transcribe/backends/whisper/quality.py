"""The quality check: why the text of a decoding pass is rejected, so that the window is decoded again with more care.

A shortened encoder window makes Whisper loop now and then ("Please increase that limit. Please increase that limit."),
or stop before the speaker does. Rejecting a quick pass costs only another pass, so its limits are strict. For a full
pass they are OpenAI's own, and the text must reach the end of the speech.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass

COMPRESSION_RATIO = 2.4  # OpenAI's threshold for text that repeats itself
LOGPROB = -1.0  # OpenAI's threshold of the mean log-probability of a token
LOGPROB_SHORT = -0.7  # the same for a quick pass; 1 to 5 of 100 prompts fall below it
TOKENS_PER_SECOND = 8  # more than speech needs in the languages whose words Whisper's vocabulary holds
# More than speech needs where the vocabulary holds hardly more than the script's bytes. Measured with base's tokenizer
# on what espeak-ng speaks: Greek 10, Tamil 14, Hindi 16, Telugu 23, Bengali 26, Georgian 34 tokens a second.
TOKENS_PER_SECOND_SPELLED = 40
TOKENS_AT_LEAST = 12
WORDS_PER_SECOND = 6.0  # the fastest speakers stay under 5
WORDS_AT_LEAST = 4  # allowed in any window, since the edges of detected speech are not exact
SPARSE = 2.5  # words a second; slower speech is aligned, to find out where its last word ends
UNALIGNED_TAIL = 0.8  # seconds of speech after the last word; whole texts stay below 0.6, truncated ones exceed 1
SENTENCE = 1.5  # seconds of speech after the last word of a full pass, which a smaller window may transcribe
LONGEST_WORD = 3.0  # seconds of speech; a longer aligned word hides words that are missing
# Aligned words in a row that take no time: in a text that repeats itself, a copy that nobody said. Beam search makes
# both quick passes write the same extra copy of a phrase that was said twice.
INSTANT_WORDS = 3
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")  # with the apostrophes inside, straight or curly
_SPELLED = frozenset(
    "el hi mr ne sa bn as pa gu ta te kn ml si th lo my km ka hy am he yi ar fa ur ps sd bo tt ba tg kk mn".split()
)
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue", "km", "bo"})  # written without blanks between words
_CHARACTERS_PER_WORD = 2.0  # in those


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of one pass over one window, before the quality check."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    language: str
    language_probability: float | None
    short: bool  # of a quick pass: the encoder saw less than 30 s


def token_budget(seconds: float, language: str, *, short: bool) -> int:
    """Return how many tokens a window of `seconds` may take; a full pass has the larger budget in every language."""
    rate = TOKENS_PER_SECOND if short and language not in _SPELLED else TOKENS_PER_SECOND_SPELLED
    return TOKENS_AT_LEAST + round(rate * seconds)


def reject_reason(
    draft: Draft,
    seconds: float,
    speech: float,
    *,
    longest_word: float = 0.0,
    unaligned_tail: float = 0.0,
    instant: int = 0,
    earlier: Collection[Draft] = (),
    contested: bool = False,
) -> str | None:
    """Return why a decoding is rejected, or None if it is accepted.

    Args:
        draft: the text to check.
        seconds: length of the window.
        speech: how much of it is speech (seconds).
        longest_word: how much speech its longest aligned word fills (seconds); 0 where nothing was aligned.
        unaligned_tail: how much speech follows its last aligned word (seconds); 0 where nothing was aligned.
        instant: how many aligned words in a row take no time.
        earlier: what other passes wrote. A loop is an artefact of one pass; a repetition in two was really said.
        contested: whether two other passes agree on a text that repeats itself. A full pass is then checked as
            strictly as a quick one, since Whisper tends to write once what was said twice.
    """
    if len(draft.tokens) >= token_budget(seconds, draft.language, short=draft.short) - 1:
        return "too many tokens"
    agreed = instant < INSTANT_WORDS and any(_words(draft) == _words(one) for one in earlier)
    if compression_ratio(draft.text) > COMPRESSION_RATIO and not agreed:
        return "compressible"
    if draft.avg_logprob < (LOGPROB_SHORT if draft.short else LOGPROB):
        return "improbable"
    if unaligned_tail > UNALIGNED_TAIL:
        return "speech after the last word"
    return _strict_reason(draft, speech, longest_word, agreed=agreed) if draft.short or contested else None


def _strict_reason(draft: Draft, speech: float, longest_word: float, *, agreed: bool) -> str | None:
    """Return why a quick pass, or one that others contradict, is rejected, or None."""
    if repeats(_words(draft)) and not agreed:
        return "a phrase repeated"
    if _count(draft) > WORDS_AT_LEAST + WORDS_PER_SECOND * speech:
        return "too many words"
    if longest_word > LONGEST_WORD:
        return "speech without words"
    return None


def omits_speech(draft: Draft, longest_word: float, unaligned_tail: float) -> bool:
    """Return whether a full pass omits speech that smaller windows would transcribe: Whisper avoids repetitions.

    Its text ends before the speech does, or repeats itself and has a word that is too long.
    """
    if unaligned_tail > SENTENCE:
        return True
    repeating = compression_ratio(draft.text) > COMPRESSION_RATIO or repeats(_words(draft))
    return repeating and longest_word > LONGEST_WORD


def sparse(draft: Draft, speech: float) -> bool:
    """Return whether a text has so few words for its seconds of speech that it may be truncated."""
    return _count(draft) < SPARSE * speech


def must_align(draft: Draft, speech: float) -> bool:
    """Return whether the quality check needs the times of a text's words: it is sparse, or it repeats itself."""
    return sparse(draft, speech) or repeats(_words(draft))


def compression_ratio(text: str) -> float:
    """Return the size of the text over its size when compressed by zlib; 0 for an empty text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _words(draft: Draft) -> list[str]:
    return list(draft.text) if draft.language in _UNSPACED else _WORD.findall(draft.text.lower())


def _count(draft: Draft) -> float:
    return len(draft.text) / _CHARACTERS_PER_WORD if draft.language in _UNSPACED else len(_words(draft))


def repeats(words: list[str]) -> bool:
    """Return whether a word or a phrase stands twice in a row."""
    return any(
        words[at : at + size] == words[at + size : at + 2 * size]
        for size in range(1, len(words) // 2 + 1)
        for at in range(len(words) - 2 * size + 1)
    )
