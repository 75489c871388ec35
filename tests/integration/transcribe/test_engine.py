"""The engine's own behaviour on the fake backend, and what only a real model can show."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from hearing import SENTENCE, SENTENCES, word_error_rate

from pipeline.transcribe import DecodingOptions, Engine, EngineError
from pipeline.transcribe.backends.fake import say
from voicemill.errors import JobError

pytestmark = pytest.mark.processes

RATE = 16_000


def test_words_come_back_on_the_message_s_own_clock(fake_engine):
    audio = np.concatenate([np.zeros(3 * RATE, np.float32), say(SENTENCE)])
    [transcript] = fake_engine.transcribe([audio])
    assert transcript.text == SENTENCE
    assert transcript.language == "en"
    assert transcript.segments[0].start == pytest.approx(3.06, abs=0.02)
    assert transcript.segments[-1].end <= transcript.duration + 0.01
    assert transcript.duration == pytest.approx(len(audio) / RATE)
    assert (transcript.device, transcript.no_speech) == ("cpu", False)


def test_silence_is_an_empty_transcript(fake_engine):
    [transcript] = fake_engine.transcribe([np.zeros(5 * RATE, np.float32)])
    assert (transcript.text, transcript.no_speech, transcript.segments) == ("", True, ())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (DecodingOptions(language="klingon"), "invalid_options"),
        (DecodingOptions(task="sing"), "invalid_options"),
        (DecodingOptions(max_duration=0.5), "too_long"),
        # What would end the model's process, and the batch of the others with it
        (DecodingOptions(beam_size=0), "invalid_options"),
        (DecodingOptions(beam_size=2.5), "invalid_options"),
        (DecodingOptions(no_speech_threshold="low"), "invalid_options"),
        (DecodingOptions(max_duration="5"), "invalid_options"),
        (DecodingOptions(prompt="\ud800"), "invalid_options"),
        (DecodingOptions(hotwords=["Voicemill"]), "invalid_options"),
        (DecodingOptions(hotwords="Voicemill " * 50_000), "invalid_options"),
    ],
)
def test_invalid_options_are_refused_before_any_work(fake_engine, options, code):
    with pytest.raises(JobError) as caught:
        fake_engine.submit(np.zeros(RATE, np.float32), options).result(1)
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
def test_anything_but_samples_is_refused_at_once(fake_engine, audio):
    with pytest.raises(ValueError, match=r"^audio (takes|holds)"):
        fake_engine.submit(audio, DecodingOptions())


def test_a_message_as_long_as_allowed_is_taken(fake_engine):
    [transcript] = fake_engine.transcribe([np.zeros(RATE, np.float32)], [DecodingOptions(max_duration=1.0)])
    assert transcript.no_speech


def test_a_cancelled_message_leaves_the_engine_to_the_others(fake_engine):
    gone = fake_engine.submit(say(" ".join([SENTENCE] * 30)), DecodingOptions())
    gone.cancel()
    [transcript] = fake_engine.transcribe([say(SENTENCE)])
    assert gone.cancelled()
    assert transcript.text == SENTENCE


def test_a_long_recording_is_cut_in_the_background_and_keeps_its_clock(fake_engine):
    audio = np.zeros(720 * RATE, np.float32)
    said_at = [2.0, 299.0, 710.0]  # the second crosses the border of two portions that the voice detector gets
    sentence = say(SENTENCE)
    for at in said_at:
        audio[int(at * RATE) : int(at * RATE) + len(sentence)] = sentence
    [transcript] = fake_engine.transcribe([audio])
    assert [segment.text for segment in transcript.segments] == [SENTENCE] * 3
    assert [segment.start for segment in transcript.segments] == pytest.approx([at + 0.06 for at in said_at], abs=0.02)


@pytest.fixture(scope="module")
def several_windows():
    """A message of several windows."""
    return say(" ".join(SENTENCES * 12))


def test_a_slow_listener_to_progress_holds_nobody_up(fake_engine, several_windows):
    heard, go_on = [], threading.Event()

    def listen(done, total):
        heard.append((done, total))
        go_on.wait(60)

    transcript = fake_engine.submit(several_windows, DecodingOptions(), listen).result(60)
    go_on.set()
    assert transcript.text == " ".join(SENTENCES * 12)
    assert len(heard) == 1
    assert 0 < heard[0][0] < heard[0][1]


def test_progress_is_reported_all_the_way_and_never_backwards(fake_engine, several_windows):
    heard = []
    fake_engine.submit(several_windows, DecodingOptions(), lambda *step: heard.append(step)).result(60)
    assert len(heard) >= 2
    assert heard == sorted(heard)
    assert all(0 < done < total for done, total in heard)
    assert len({total for _, total in heard}) == 1


def test_a_listener_that_raises_costs_only_its_own_reports(fake_engine, several_windows):
    def listen(_done, _total):
        raise RuntimeError("a progress bar that is gone")

    assert fake_engine.submit(several_windows, DecodingOptions(), listen).result(60).text
    heard = []
    fake_engine.submit(several_windows, DecodingOptions(), lambda *step: heard.append(step)).result(60)
    assert heard


def test_a_message_s_language_is_detected_once_and_for_all_of_it(fake_engine):
    gap = np.zeros(RATE, np.float32)
    windows = [
        "Eine Nachricht.",
        "<de> " + "Guten Morgen, ich komme heute etwas später ins Büro. " * 4,
        "<ko> Noch eine.",
    ]
    audio = np.concatenate([part for text in windows for part in (say(text * 2), gap)])
    [transcript] = fake_engine.transcribe([audio])
    assert transcript.language == "de"
    assert transcript.language_probability is not None


def test_post_processing_gets_the_transcript_and_the_audio_and_a_step_that_fails_is_skipped():
    seen = []

    def shout(transcript, audio):
        seen.append(audio)
        return replace(transcript, text=transcript.text.upper())

    def fails(transcript, audio):
        raise RuntimeError("no speakers found")

    def mark(transcript, audio):
        return replace(transcript, text=f"{transcript.text} (checked)")

    audio = say(SENTENCE)
    with Engine("fake", device="cpu", replicas=1, postprocess=(shout, fails, mark)) as engine:
        spoken, silent = engine.transcribe([audio, np.zeros(RATE, np.float32)])
    assert spoken.text == f"{SENTENCE.upper()} (checked)"
    assert silent.text == " (checked)"
    assert any(one is audio for one in seen)


def test_a_stopped_engine_fails_what_waits_for_post_processing():
    begun, go_on = threading.Event(), threading.Event()

    def wait(transcript, _audio):
        begun.set()
        go_on.wait(60)
        return transcript

    engine = Engine("fake", device="cpu", replicas=1, postprocess=(wait,))
    running = engine.submit(say(SENTENCE), DecodingOptions())
    assert begun.wait(60)
    waiting = engine.submit(np.zeros(RATE, np.float32), DecodingOptions())
    engine.stop()
    go_on.set()
    assert running.result(60).text == SENTENCE
    assert waiting.exception(60).code == "worker_stopped"


@pytest.mark.model
def test_a_real_model_transcribes_on_the_message_s_own_clock(engine, speak):
    audio = np.concatenate([np.zeros(3 * RATE, np.float32), speak(SENTENCE)])
    [transcript] = engine.transcribe([audio])
    assert word_error_rate(transcript.text, SENTENCE) < 0.4
    assert transcript.language == "en"
    assert 2.8 < transcript.segments[0].start < 3.5
    assert transcript.segments[-1].end <= transcript.duration + 0.01
    assert transcript.duration == pytest.approx(len(audio) / RATE)
    assert (transcript.device, transcript.no_speech) == ("cpu", False)


@pytest.mark.model
def test_a_real_model_makes_no_words_of_silence(engine):
    [transcript] = engine.transcribe([np.zeros(5 * RATE, np.float32)])
    assert (transcript.text, transcript.no_speech, transcript.segments) == ("", True, ())


@pytest.mark.model
def test_an_aborted_process_is_replaced_and_its_messages_are_done(engine, speak):
    audio = speak(SENTENCE)
    first = engine.slots[0].pid
    futures = [engine.submit(audio, DecodingOptions()) for _ in range(12)]
    os.kill(first, signal.SIGABRT)
    assert all(word_error_rate(future.result(60).text, SENTENCE) < 0.4 for future in futures)
    assert engine.alive


@pytest.mark.model
def test_damaged_weights_end_the_start_of_an_engine_with_the_library_s_reason(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"these are no weights")
    with pytest.raises(EngineError, match=r"No slot could be started\. .* on CPU: "):
        Engine(str(tmp_path), device="cpu", replicas=1)
