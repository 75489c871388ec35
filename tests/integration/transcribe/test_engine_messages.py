"""Every kind of message that people send, and every option they may ask for."""

from __future__ import annotations

import os
import threading
from itertools import pairwise

import numpy as np
import pytest

from pipeline.errors import JobError
from pipeline.transcribe import Options
from pipeline.transcribe.window import cut

SENTENCE = "Please move our meeting with the design team to Thursday at three."
RATE = 16_000


def noise(seconds: float, loudness: float = 0.1) -> np.ndarray:
    return np.random.default_rng(1).normal(0, loudness, int(seconds * RATE)).astype(np.float32)


def chords(seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    notes = [262 * 2 ** (step / 12) for step in (0, 4, 7, 12)]
    beat = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * 2 * time))
    return (0.1 * beat * sum(np.sin(2 * np.pi * note * time) for note in notes)).astype(np.float32)


@pytest.mark.parametrize(
    "audio",
    [np.zeros(RATE, np.float32), np.zeros(0, np.float32), noise(6), chords(6), noise(0.1)],
    ids=["silence", "nothing", "noise", "music", "a tenth of a second"],
)
def test_what_holds_no_voice_gives_no_words(engine, audio):
    [transcript] = engine.transcribe([audio])
    assert (transcript.text, transcript.no_speech) == ("", True)


def test_a_voice_in_noise_clipped_or_from_a_telephone_is_understood(engine, speak):
    clean = speak(SENTENCE)
    telephone = np.repeat(clean[::2], 2)  # what 8 kHz leaves
    for audio in (clean + noise(len(clean) / RATE, 0.005)[: len(clean)], np.clip(clean * 3, -1, 1), telephone):
        [transcript] = engine.transcribe([audio])
        assert "meeting" in transcript.text.lower()


def test_a_long_message_is_cut_at_silences_and_every_sentence_comes_once(engine, speak):
    days = ["Monday", "Tuesday", "Thursday", "Friday", "Saturday", "Sunday"]
    gap = np.zeros(RATE * 3, np.float32)
    parts = [part for day in days for part in (speak(f"Please move our meeting to {day} at three."), gap)]
    [transcript] = engine.transcribe([np.concatenate(parts)])
    assert [transcript.text.count(day) for day in days] == [1] * len(days)
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(starts)
    assert transcript.segments[-1].end <= transcript.duration


def test_who_never_pauses_is_cut_before_the_encoder_s_30_s_are_over(speak):
    voice = speak(SENTENCE)[RATE // 4 : 3 * RATE]
    windows = cut(np.tile(voice, 30), 30.0)
    assert len(windows) > 2
    assert all(window.duration <= 30 for window in windows)


def test_words_have_times_and_probabilities_where_they_are_wanted(engine, speak):
    [plain, timed] = engine.transcribe([speak(SENTENCE)] * 2, [Options(), Options(word_timestamps=True)])
    assert all(segment.words is None for segment in plain.segments)
    words = [word for segment in timed.segments for word in segment.words or ()]
    assert len(words) >= 10
    assert all(0 <= one.start <= one.end <= two.start + 1e-6 for one, two in pairwise(words))
    assert all(0 < word.probability <= 1 for word in words)
    assert words[-1].end <= timed.duration


def test_hotwords_and_a_prompt_bend_the_spelling_of_their_own_message_alone(engine, speak):
    audio = speak("Please call Kathryn about the Voicemill project.")
    plain, prompted, hot = engine.transcribe(
        [audio] * 3, [Options(), Options(prompt="Voicemill, Kathryn."), Options(hotwords="Voicemill Kathryn")]
    )
    assert plain.text
    assert "Voicemill" in prompted.text + hot.text
    assert "Voicemill" not in plain.text


def test_a_prompt_and_hotwords_of_any_length_leave_room_for_the_text(engine, speak):
    wish = Options(prompt="a voice message about many things " * 120, hotwords="Kathryn Voicemill " * 220)
    first = engine.slots[0].pid
    transcript = engine.submit(speak(SENTENCE), wish).result(60)
    assert transcript.text
    assert engine.slots[0].pid == first


def test_who_speaks_fast_is_heard_to_the_end(engine, speak):
    """CTranslate2 gives a text half of the tokens that it is allowed, and says nothing when they are spent."""
    hurried = (
        "please tell the new doctor that my mother took the small white pill at nine and the big red one at ten and "
        "that she feels a little better now and wants to go home to her dog and her cat before the rain comes back "
        "tonight"
    )
    [heard] = engine.transcribe([speak(hurried, words_per_minute=200)])
    assert heard.text.rstrip(".").endswith("tonight")


def test_a_script_that_takes_many_tokens_is_written_to_its_end(multilingual, speak):
    greek = "Παρακαλώ μετακινήστε τη συνάντησή μας με την ομάδα σχεδιασμού την Πέμπτη το πρωί."
    [transcript] = multilingual.transcribe([speak(greek, voice="el")], [Options(language="el")])
    assert transcript.text.endswith("το πρωί.")


def test_a_long_recording_is_cut_in_the_background_and_keeps_its_clock(engine, speak):
    hours = float(os.environ.get("LONG_HOURS", "0.2"))  # make drill-engine: three
    audio = np.zeros(int(hours * 3600 * RATE), np.float32)
    said_at = (2.0, 299.0, hours * 3600 - 10.0)  # the second goes over the border of what the VAD reads at a time
    sentence = speak(SENTENCE)
    for at in said_at:
        audio[int(at * RATE) : int(at * RATE) + len(sentence)] = sentence
    long = engine.submit(audio, Options())
    [short] = engine.transcribe([sentence])
    assert not long.done()
    assert "design team" in short.text
    transcript = long.result(100)
    assert transcript.duration == hours * 3600
    starts = [segment.start for segment in transcript.segments if segment.text.startswith("Please")]
    assert starts == pytest.approx(said_at, abs=0.3)


@pytest.fixture(scope="module")
def fortnight(speak):
    """A message of several windows."""
    days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    sentences = [f"Please come to {place} on {day} at three." for place in ("my office", "our shop") for day in days]
    return np.concatenate([speak(sentence) for sentence in sentences])


def test_a_slow_listener_to_progress_holds_nobody_up(engine, fortnight):
    heard, go_on = [], threading.Event()

    def listen(done, total):
        heard.append((done, total))
        go_on.wait(60)

    transcript = engine.submit(fortnight, Options(), listen).result(60)
    go_on.set()
    assert "Sunday" in transcript.text
    assert len(heard) == 1
    assert 0 < heard[0][0] < heard[0][1]


def test_progress_is_told_all_the_way_and_never_backwards(engine, fortnight):
    heard = []
    engine.submit(fortnight, Options(), lambda done, total: heard.append((done, total))).result(60)
    assert len(heard) >= 2
    assert heard == sorted(heard)
    assert all(0 < done < total for done, total in heard)
    assert len({total for _, total in heard}) == 1


def test_messages_of_different_languages_and_tasks_share_an_engine(multilingual, speak):
    german = speak("Guten Morgen, ich komme heute etwas später ins Büro.", voice="de")
    wishes = [Options(), Options(language="de"), Options(language="de", task="translate"), Options(language="en")]
    detected, given, translated, english = multilingual.transcribe([german] * 3 + [speak(SENTENCE)], wishes)
    assert (detected.language, given.language) == ("de", "de")
    assert 0 < (detected.language_probability or 0) <= 1
    assert given.language_probability is None
    assert "Guten Morgen" in given.text
    assert "morning" in translated.text.lower()
    assert "design team" in english.text


def test_a_language_of_which_a_short_look_is_not_sure_is_detected_on_the_full_window(multilingual, speak):
    german = speak("Guten Morgen, die Besprechung beginnt heute um drei Uhr.", voice="de")  # Thai, on 12 s: 0.46
    [transcript] = multilingual.transcribe([german])
    assert transcript.language == "de"


def test_a_sentence_said_four_times_is_written_four_times(multilingual, speak):
    gap = np.zeros(RATE // 2, np.float32)  # the full window alone has it three times: whisper avoids repeating itself
    [transcript] = multilingual.transcribe([np.concatenate([speak(SENTENCE), gap] * 4)], [Options(language="en")])
    assert transcript.text.lower().count("design team") == 4


def test_a_long_message_s_language_is_detected_once_and_for_all_of_it(multilingual, speak):
    sentences = [
        SENTENCE,
        "The train to the airport leaves from platform seven in the morning.",
        "She bought apples, bread and a bottle of milk at the market.",
        "It has been raining for a week and the river is very high.",
        "Call the doctor before noon and ask about the results of the test.",
    ]
    gap = np.zeros(RATE, np.float32)
    audio = np.concatenate([part for sentence in sentences for part in (speak(sentence), gap)])
    [transcript] = multilingual.transcribe([audio])
    assert transcript.language == "en"
    assert transcript.language_probability is not None
    found = [word for word in ("meeting", "airport", "milk", "river", "doctor") if word in transcript.text]
    assert len(found) >= len(sentences) - 1, transcript.text


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (Options(language="klingon"), "invalid_options"),
        (Options(task="sing"), "invalid_options"),
        (Options(max_duration=0.5), "too_long"),
        # What would end the model's process, and the batch of the others with it
        (Options(beam_size=0), "invalid_options"),
        (Options(beam_size=2.5), "invalid_options"),
        (Options(no_speech_threshold="low"), "invalid_options"),
        (Options(max_duration="5"), "invalid_options"),
        (Options(prompt="\ud800"), "invalid_options"),
        (Options(hotwords=["Voicemill"]), "invalid_options"),
        (Options(hotwords="Voicemill " * 50_000), "invalid_options"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(multilingual, options, code):
    with pytest.raises(JobError) as caught:
        multilingual.submit(np.zeros(RATE, np.float32), options).result(1)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(RATE),
        np.zeros(RATE, np.int16),
        np.zeros((2, RATE), np.float32),
        [0.0] * RATE,
        np.float32([0.1, np.nan, 0.1]),
        np.float32([0.1, np.inf, 0.1]),
        np.float32([0.1, -np.inf, 0.1]),
    ],
    ids=["float64", "int16", "stereo", "list", "NaN", "infinite", "negative infinite"],
)
def test_what_are_no_samples_is_refused_at_once(engine, audio):
    with pytest.raises(ValueError, match=r"^audio (takes|holds)"):
        engine.submit(audio, Options())


def test_a_message_as_long_as_allowed_is_taken(engine):
    [transcript] = engine.transcribe([np.zeros(RATE, np.float32)], [Options(max_duration=1.0)])
    assert transcript.no_speech


def test_a_cancelled_message_leaves_the_engine_to_the_others(engine, speak):
    gone = engine.submit(np.concatenate([speak(SENTENCE)] * 10), Options())
    gone.cancel()
    [transcript] = engine.transcribe([speak(SENTENCE)])
    assert gone.cancelled()
    assert "design team" in transcript.text
