"""From aligned words to segments on the message's own clock."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipeline.transcribe import DecodingOptions
from pipeline.transcribe.backends.whisper import alignment
from pipeline.transcribe.backends.whisper.quality import Draft
from pipeline.transcribe.window import Piece, Window

# Two sentences, the second after a pause of 5 s of which the window keeps only the margins.
WINDOW = Window(
    np.zeros(16_000 * 4, np.float32), (Piece(0.0, 10.0, 12.0), Piece(2.0, 17.0, 19.0)), ((10.2, 11.8), (17.2, 18.8))
)


def timing(word: str, start: float, end: float) -> dict[str, object]:
    return {"word": word, "tokens": [1], "start": start, "end": end, "probability": 0.9}


def draft(text: str) -> Draft:
    return Draft((1, 2), text, -0.1, 0.0, "en", None, True)


def test_times_are_the_message_s_although_the_pause_was_cut_out():
    timings = [timing(" One.", 0.0, 1.0), timing(" Two", 1.9, 3.0), timing(" three.", 3.0, 4.0)]
    one, two = alignment.segments(WINDOW, draft("One. Two three."), timings, keep_words=True)
    assert (one.start, one.text) == (10.2, "One.")
    assert (two.start, two.end, two.text) == (17.2, 18.8, "Two three.")
    assert [word.word for word in two.words or ()] == [" Two", " three."]


def test_without_aligned_words_the_voice_detector_gives_the_times():
    [only] = alignment.segments(WINDOW, draft("One two."), [], keep_words=False)
    assert (only.start, only.end, only.words) == (10.2, 18.8, None)


def test_a_pause_ends_a_segment_without_a_full_stop():
    timings = [timing(" one", 0.2, 1.6), timing(" two", 2.3, 3.8)]
    assert [segment.text for segment in alignment.segments(WINDOW, draft("one two"), timings, keep_words=False)] == [
        "one",
        "two",
    ]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("Call Mr. Smith. Thanks.", ["Call Mr. Smith.", "Thanks."]),
        ("At 9 a.m. on Monday. Thanks.", ["At 9 a.m. on Monday.", "Thanks."]),
        ("Really? yes.", ["Really?", "yes."]),
    ],
)
def test_an_abbreviation_ends_no_segment(words, texts):
    timings = [timing(f" {word}", at / 4, (at + 1) / 4) for at, word in enumerate(words.split())]
    assert [one.text for one in alignment.segments(WINDOW, draft(words), timings, keep_words=False)] == texts


def test_a_segment_that_grows_too_long_ends_at_a_comma():
    window = Window(np.zeros(16_000 * 16, np.float32), (Piece(0.0, 0.0, 16.0),), ((0.0, 16.0),))
    timings = [timing(f" word{',' * (at in (4, 13))}", at, at + 1) for at in range(16)]
    assert [segment.end for segment in alignment.segments(window, draft("…"), timings, keep_words=False)] == [14, 16]


def test_a_word_ends_before_the_silence_that_it_is_aligned_into():
    timings = [timing(" one", 0.2, 2.1), timing(" two", 2.3, 3.8)]
    assert alignment.segments(WINDOW, draft("one two"), timings, keep_words=False)[0].end == 11.8


def test_punctuation_clings_to_its_word():
    timings = [timing(" One", 0.2, 1.5), timing(".", 1.5, 1.6), timing(" Two", 2.2, 3.7), timing("?", 3.7, 3.8)]
    found = alignment.segments(WINDOW, draft("One. Two?"), timings, keep_words=True)
    assert [word.word for segment in found for word in segment.words or ()] == [" One.", " Two?"]


@pytest.mark.parametrize(
    ("seconds", "options", "text", "wanted"),
    [
        (4, DecodingOptions(), "One.", False),
        (4, DecodingOptions(), "Room 3.5 is free.", False),
        (4, DecodingOptions(), "One. Two.", True),
        (9, DecodingOptions(), "One", True),
        (4, DecodingOptions(word_timestamps=True), "One.", True),
    ],
)
def test_only_a_window_of_one_short_sentence_is_not_aligned(seconds, options, text, wanted):
    window = Window(np.zeros(16_000 * seconds, np.float32), (Piece(0, 0, seconds),), ((0, seconds),))
    assert alignment.wants_words(window, options, text) is wanted


@pytest.mark.parametrize("border", [1.75, 2.25], ids=["before the pause", "after the pause"])
def test_a_word_that_is_aligned_across_a_long_pause_keeps_its_longer_part(border):
    timings = [timing(" one", 0.2, border), timing(" two", border, 3.8)]
    one, two = alignment.segments(WINDOW, draft("one two"), timings, keep_words=False)
    assert (one.text, two.text) == ("one", "two")
    assert one.end <= 11.8
    assert two.start >= 17.2


def test_a_window_with_a_long_pause_is_aligned_whatever_its_text():
    assert WINDOW.duration < alignment.ONE_SEGMENT
    assert alignment.wants_words(WINDOW, DecodingOptions(), "One two")


def test_words_never_overlap_and_never_run_backwards():
    timings = [timing(" one", 0.5, 1.5), timing(" two", 1.2, 1.1), timing(" three", 1.0, 3.9)]
    [*segments] = alignment.segments(WINDOW, draft("one two three"), timings, keep_words=True)
    words = [word for segment in segments for word in segment.words or ()]
    assert all(one.start <= one.end <= two.start for one, two in pairwise(words))


def test_speech_after_the_last_word_is_counted_even_if_a_full_stop_is_aligned_to_it():
    timings = [timing(" One", 0.2, 1.0), timing(".", 1.0, 3.9)]
    assert alignment.unaligned_tail(WINDOW, timings) == pytest.approx(0.8 + 1.6)
    assert alignment.unaligned_tail(WINDOW, [timing(" One", 0.2, 1.0), timing(" two", 2.2, 3.8)]) == pytest.approx(0.0)
    assert alignment.unaligned_tail(WINDOW, []) == pytest.approx(1.6 + 1.6)


def test_words_in_a_row_that_take_no_time_are_counted():
    times = [(0.0, 0.6), (0.6, 0.6), (0.6, 0.9), (5.2, 5.2), (5.2, 5.2), (5.2, 5.2), (5.2, 5.2)]
    words = [" Waiting", " to", " speak", ".", " Waiting", " to", " speak"]
    timings = [{"word": word, "start": start, "end": end} for word, (start, end) in zip(words, times, strict=True)]
    assert alignment.longest_instant(timings) == 3
    assert alignment.longest_instant(timings[:4]) == 1
    assert alignment.longest_instant([]) == 0
