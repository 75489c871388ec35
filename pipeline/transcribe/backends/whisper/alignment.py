"""Put words and segments on the message's clock.

A window with one short stretch of speech takes its times from the voice detector, any other from cross-attention.
Cross-attention knows the order of the words but is off by 0.1 to 0.2 s; the voice detector knows to 0.01 s where there
is silence. So words come from the first and are kept out of the pauses of the second.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from faster_whisper.transcribe import merge_punctuations

from voicemill.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.transcribe.backends.whisper.quality import Draft
    from pipeline.transcribe.options import DecodingOptions
    from pipeline.transcribe.window import Window

Timings = list[dict[str, Any]]  # faster-whisper's aligned words: word, tokens, start, end (seconds), probability

SENTENCE_END = ".?!。？！…"
TITLES = frozenset({"mr.", "mrs.", "ms.", "dr.", "prof.", "st."})  # no sentence ends here: a name follows
ONE_SEGMENT = 8.0  # seconds; a window with one sentence this short is one segment
PAUSE = 0.8  # seconds of silence between two words that end a segment without a full stop
LONGEST = 12.0  # seconds; a longer segment ends at the next comma or pause
BRIEF_PAUSE = 0.3  # seconds; where a segment that is too long may end
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
_SENTENCES = re.compile(rf"[{SENTENCE_END}]+\s+\S")


def wants_words(window: Window, options: DecodingOptions, text: str) -> bool:
    """Return whether the window's text must be aligned word by word to time its segments."""
    return (
        options.word_timestamps
        or window.duration > ONE_SEGMENT
        or len(window.pieces) > 1  # a long pause is cut out of the audio, and no segment may span it
        or _SENTENCES.search(text) is not None
    )


def segments(window: Window, draft: Draft, timings: Timings, *, keep_words: bool) -> tuple[Segment, ...]:
    """Return the segments of a window on the message's clock.

    Args:
        window: the window.
        draft: its text.
        timings: its aligned words, in seconds from the start of the window's audio; if empty, the text is one segment.
        keep_words: whether the segments carry their words.
    """
    if not draft.text:
        return ()
    words = list(_on_the_clock(window, timings))
    if not words:
        start, end = window.speech[0][0], window.speech[-1][1]
        return (Segment(start, end, draft.text, draft.avg_logprob, draft.no_speech_prob, () if keep_words else None),)
    return tuple(
        Segment(
            start=group[0].start,
            end=group[-1].end,
            text="".join(word.word for word in group).strip(),
            avg_logprob=draft.avg_logprob,
            no_speech_prob=draft.no_speech_prob,
            words=tuple(group) if keep_words else None,
        )
        for group in _grouped(words)
    )


def voiced(window: Window, timing: dict[str, Any]) -> float:
    """Return how much of an aligned word is speech (seconds)."""
    start, end = window.clock(float(timing["start"])), window.clock(float(timing["end"]))
    return sum(max(0.0, min(end, last) - max(start, first)) for first, last in window.speech)


def unaligned_tail(window: Window, timings: Timings) -> float:
    """Return how much speech follows the last aligned word (seconds).

    Punctuation does not count as a word, since speech that the text leaves out may be aligned to it.
    """
    words = [timing for timing in timings if any(map(str.isalnum, timing["word"]))]
    aligned = window.clock(float(words[-1]["end"])) if words else 0.0
    return sum(max(0.0, last - max(first, aligned)) for first, last in window.speech)


def longest_instant(timings: Timings) -> int:
    """Return the largest number of words in a row to which the alignment gives no time at all."""
    longest = length = 0
    for timing in timings:
        if any(map(str.isalnum, timing["word"])):
            length = length + 1 if timing["end"] <= timing["start"] else 0
            longest = max(longest, length)
    return longest


def _on_the_clock(window: Window, timings: Timings) -> Iterator[Word]:
    """Yield the words on the message's clock, in order, kept out of silences."""
    merge_punctuations(timings, PREPENDED, APPENDED)
    spoken = [timing for timing in timings if timing["word"].strip()]
    passed = window.speech[0][0]
    for index, timing in enumerate(spoken):
        start, end = window.clock(float(timing["start"])), window.clock(float(timing["end"]))
        if index == 0:
            start = window.speech[0][0]
        if index == len(spoken) - 1:
            end = window.speech[-1][1]
        start, end = _out_of_silence(max(start, passed), max(end, passed), window.speech)
        passed = end
        yield Word(start, end, timing["word"], float(timing["probability"]))


def _out_of_silence(start: float, end: float, speech: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Move the ends of a word that lie in a silence to the nearest speech."""
    for (_, silence), (voice, _) in pairwise(speech):
        if start < silence and voice < end and voice - silence >= PAUSE:  # no word lasts through a pause
            if end - voice > silence - start:
                start = voice
            else:
                end = silence
        if silence < start < voice < end:
            start = voice
        if start < silence < end < voice:
            end = silence
    return start, max(start, end)


def _grouped(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Cut words into segments: at the ends of sentences, at pauses, and where a segment grows too long."""
    group: list[Word] = []
    for word in words:
        if group and _ends(group, word):
            yield group
            group = []
        group.append(word)
    yield group


def _ends(group: Sequence[Word], word: Word) -> bool:
    before, pause = group[-1].word.strip(), word.start - group[-1].end
    too_long = word.end - group[0].start > LONGEST
    if pause >= PAUSE:
        return True
    if before.endswith(tuple(SENTENCE_END)):
        return too_long or not _abbreviates(before, word.word.strip())
    return too_long and (before.endswith((",", "、", "，")) or pause >= BRIEF_PAUSE)


def _abbreviates(before: str, after: str) -> bool:
    """Return whether a full stop belongs to an abbreviation: a title, or one in mid-sentence ("a.m. on")."""
    return before.endswith(".") and (before.lower() in TITLES or after[:1].islower())
