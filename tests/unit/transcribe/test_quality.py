"""The reasons for which the quality check rejects a decoding."""

from __future__ import annotations

import pytest

from pipeline.transcribe.backends.whisper import hallucinations, quality
from pipeline.transcribe.backends.whisper.quality import Draft, reject_reason


def draft(text: str, *, logprob: float = -0.2, short: bool = True, language: str = "en", tokens: int = 10) -> Draft:
    return Draft(tuple(range(tokens)), text, logprob, 0.01, language, None, short)


PANGRAMS = (
    "The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor jugs. How vexingly quick daft "
    "zebras jump. Sphinx of black quartz, judge my vow. Waltz, bad nymph, for quick jigs vex."
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Please increase that limit. Please increase that limit.", "a phrase repeated"),  # a loop too short for zlib
        ("Press three. Press three.", "a phrase repeated"),
        ("the the meeting", "a phrase repeated"),
        ("one two three four five six seven eight nine ten eleven twelve thirteen fourteen " * 2, "a phrase repeated"),
        (PANGRAMS, "too many words"),
        ("You have five new messages in your inbox.", None),
    ],
)
def test_a_quick_pass_is_rejected_for_its_text(text, reason):
    assert reject_reason(draft(text), seconds=5.5, speech=5.0) == reason


def test_a_repetition_that_two_passes_agree_on_is_accepted_unless_its_words_take_no_time():
    text = "Waiting to speak with a representative. " * 3
    earlier = [draft(text)]
    assert reject_reason(draft(text), 5.5, 4.1, earlier=earlier, instant=2) is None
    assert reject_reason(draft(text), 5.5, 4.1, earlier=earlier, instant=6) == "a phrase repeated"


def test_a_text_that_repeats_itself_is_aligned():
    assert quality.must_align(draft("Press three now please. Press three now please."), speech=2.0)
    assert not quality.must_align(draft("Press three now please, or wait."), speech=2.0)


def test_a_quick_pass_must_be_surer_of_its_words_than_a_full_one():
    assert reject_reason(draft("Fine.", logprob=-0.8), 5, 5) == "improbable"
    assert reject_reason(draft("Fine.", logprob=-0.6), 5, 5) is None


def test_a_full_pass_is_rejected_by_openai_s_thresholds_alone():
    assert reject_reason(draft("Press three. Press three.", short=False), 5, 5) is None
    assert reject_reason(draft("Fine.", short=False, logprob=-0.9), 5, 5) is None
    assert reject_reason(draft("Fine.", short=False, logprob=-1.1), 5, 5) == "improbable"
    assert reject_reason(draft("again and " * 60, short=False), 30, 30) == "compressible"


def test_a_decoding_that_spends_its_token_budget_is_a_loop():
    spent = quality.token_budget(2, "en", short=True)
    assert reject_reason(draft("some words", tokens=spent), 2, 2) == "too many tokens"


def test_a_language_spelled_in_bytes_has_the_tokens_that_its_words_take():
    georgian = 35 * 4  # tokens of four seconds
    assert reject_reason(draft("გთხოვთ გადაიტანოთ ჩვენი შეხვედრა", tokens=georgian, language="ka"), 4, 4) is None
    assert reject_reason(draft("said in a pass that is the last", tokens=georgian, short=False), 4, 4) is None


def test_a_text_that_repeats_itself_over_a_hole_omits_speech():
    assert quality.omits_speech(draft("Press three. Press three."), longest_word=3.5, unaligned_tail=0.0)
    assert not quality.omits_speech(draft("Press three. Press three."), longest_word=0.5, unaligned_tail=0.0)
    assert not quality.omits_speech(draft("Press three or four."), longest_word=3.5, unaligned_tail=0.0)


def test_a_full_pass_that_ends_a_sentence_before_the_speaker_omits_speech():
    assert quality.omits_speech(draft("Press three."), longest_word=0.5, unaligned_tail=2.5)
    assert not quality.omits_speech(draft("Press three."), longest_word=0.5, unaligned_tail=0.9)


def test_an_aligned_word_that_fills_seconds_of_speech_is_a_reason():
    assert reject_reason(draft("a sentence and another one here"), 12, 9, longest_word=4) == "speech without words"


def test_a_text_that_ends_before_the_speaker_does_is_rejected():
    half = draft("The person you are calling is not at their desk.")
    assert quality.sparse(half, 8.1)
    assert reject_reason(half, 9.5, 8.1, unaligned_tail=4.0) == "speech after the last word"
    assert reject_reason(half, 9.5, 8.1, unaligned_tail=1.0) == "speech after the last word"
    assert reject_reason(half, 9.5, 8.1, unaligned_tail=0.3) is None


def test_a_phrase_that_two_quick_passes_repeat_is_not_a_loop():
    twice = draft("Press three. Press three.")
    assert reject_reason(twice, 5, 4, earlier=[draft("press three, press three")]) is None
    assert reject_reason(twice, 5, 4, earlier=[draft("Press three.")]) == "a phrase repeated"


def test_a_full_pass_that_two_others_contradict_must_leave_no_hole():
    once = draft("Press three.", short=False)
    assert reject_reason(once, 8, 7, longest_word=3.5, contested=True) == "speech without words"
    assert reject_reason(once, 8, 7, longest_word=3.5) is None
    assert reject_reason(once, 8, 7, longest_word=0.5, contested=True) is None


def test_a_repetition_in_two_passes_was_really_said():
    short, full = draft("again and " * 20), draft("Again and, " * 20, short=False)
    assert reject_reason(full, 30, 30, earlier=[draft("something else")]) == "compressible"
    assert reject_reason(full, 30, 30, earlier=[short]) is None


def test_a_script_without_blanks_is_judged_by_its_characters():
    assert reject_reason(draft("明日の会議は三時に変更になりました", language="ja"), 5.5, 5.0) is None


def test_a_subtitler_s_phrase_is_dropped_only_if_the_model_is_unsure():
    unsure = Draft((1,), "Thank you for watching!", -0.3, 0.6, "en", None, True)
    improbable = Draft((1,), "Thank you so much for watching!", -0.6, 0.01, "en", None, True)
    sure = Draft((1,), "Thank you.", -0.2, 0.01, "en", None, True)
    assert hallucinations.hallucinated(unsure)
    assert hallucinations.hallucinated(improbable)
    assert not hallucinations.hallucinated(sure)
