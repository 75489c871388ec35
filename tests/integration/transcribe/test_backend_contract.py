"""What every backend promises, whatever it is: the fake always, Whisper where its weights are."""

from __future__ import annotations

import os
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hearing import SENTENCE, word_error_rate

from pipeline.transcribe import DecodingOptions, Engine, backends
from pipeline.transcribe.backends.base import Capabilities, WindowRequest
from pipeline.transcribe.backends.fake import say
from pipeline.transcribe.window import cut
from voicemill.errors import JobError

RATE = 16_000
MULTILINGUAL = ["fake", pytest.param("bundled:base", marks=pytest.mark.model)]
MODELS = ["fake:languages=en", pytest.param("bundled:tiny.en", marks=pytest.mark.model), *MULTILINGUAL]


class Loaded:
    """A backend and its model, in this process."""

    def __init__(self, model, speak):
        self.backend = backends.create(model)
        self.path = self.backend.resolve(model, None)
        self.recognizer = self.backend.load(self.path, "cpu", self.backend.default_compute_type("cpu"), 1)
        self.speech = say(SENTENCE) if model.startswith("fake") else speak(SENTENCE)

    def request(self, window_language="en", *, audio=None, **options):
        audio = self.speech if audio is None else audio
        [window] = cut(audio, self.recognizer.capabilities.longest_window, self.backend.voice_detector())
        return WindowRequest(window, DecodingOptions(**options), window_language)


@pytest.fixture(scope="module", params=MODELS)
def loaded(request, speak):
    before = dict(os.environ)
    found = Loaded(request.param, speak)
    for name in os.environ.keys() - before.keys():  # what a backend sets for its slot's process
        del os.environ[name]
    return found


def heard(result):
    return " ".join(segment.text for segment in result.segments)


def test_a_backend_travels_to_the_slots_as_a_value(loaded):
    assert pickle.loads(pickle.dumps(loaded.backend)) == loaded.backend


def test_its_model_has_a_path_a_size_and_a_library(loaded):
    assert loaded.path.exists()
    assert loaded.backend.weights_size(loaded.path) > 0
    assert loaded.backend.library_version()


def test_capabilities_are_a_value_that_travels_back(loaded):
    known = loaded.recognizer.capabilities
    assert isinstance(known, Capabilities)
    assert pickle.loads(pickle.dumps(known)) == known
    assert known.languages
    assert "transcribe" in known.tasks
    assert 0 < known.long_message_window <= known.longest_window <= 30
    assert known.only_language in {None, *known.languages}


def test_the_model_is_on_the_device_that_was_asked_for(loaded):
    assert loaded.recognizer.device == "cpu"
    assert loaded.recognizer.compute_type


def test_the_canary_and_a_trial_run_to_their_end(loaded):
    loaded.recognizer.canary()
    assert loaded.recognizer.trial() >= 1


def test_the_voice_detector_finds_speech_and_nothing_in_silence(loaded):
    detect = loaded.backend.voice_detector()
    audio = np.concatenate([np.zeros(2 * RATE, np.float32), loaded.speech, np.zeros(2 * RATE, np.float32)])
    found = detect(audio)
    assert found
    assert 2 * RATE * 0.9 < found[0][0] < 2.5 * RATE
    assert all(start < end for start, end in found)
    assert all(one[1] <= two[0] for one, two in pairwise(found))
    assert list(detect(np.zeros(RATE, np.float32))) == []


def test_a_batch_gives_a_result_for_each_window_in_order(loaded):
    twice = np.concatenate([loaded.speech, loaded.speech])
    one, two, three = loaded.recognizer.run([loaded.request(), loaded.request(audio=twice), loaded.request()])
    assert [word_error_rate(heard(each), SENTENCE) < 0.4 for each in (one, three)] == [True, True]
    assert word_error_rate(heard(two), f"{SENTENCE} {SENTENCE}") < 0.4
    assert {each.language for each in (one, two, three)} == {"en"}
    assert all(each.decoding_pass for each in (one, two, three))


def test_times_are_the_message_s_and_in_order(loaded):
    audio = np.concatenate([np.zeros(5 * RATE, np.float32), loaded.speech])
    [result] = loaded.recognizer.run([loaded.request(audio=audio, word_timestamps=True)])
    words = [word for segment in result.segments for word in segment.words or ()]
    assert "".join(word.word for word in words).strip() == heard(result)
    assert 4.8 < result.segments[0].start < 5.6
    assert all(one.start <= one.end <= two.start + 1e-6 for one, two in pairwise(words))
    assert words[-1].end <= len(audio) / RATE + 0.01
    assert all(0 < word.probability <= 1 for word in words)


def test_words_come_only_if_they_are_asked_for(loaded):
    [result] = loaded.recognizer.run([loaded.request()])
    assert all(segment.words is None for segment in result.segments)


@pytest.mark.parametrize("loaded", MULTILINGUAL, indirect=True)
def test_each_window_has_its_own_language(loaded):
    given, detected = loaded.recognizer.run([loaded.request("de"), loaded.request(None)])
    assert (given.language, given.language_probability) == ("de", None)
    assert detected.language == "en"
    assert 0 < (detected.language_probability or 0) <= 1


@pytest.mark.parametrize("loaded", MULTILINGUAL, indirect=True)
def test_the_window_s_language_overrides_what_the_sender_asked_for(loaded):
    [result] = loaded.recognizer.run([loaded.request("en", language="de")])
    assert result.language == "en"
    assert word_error_rate(heard(result), SENTENCE) < 0.4


def test_the_same_window_gives_the_same_text(loaded):
    [first], [second] = (loaded.recognizer.run([loaded.request()]) for _ in range(2))
    assert first == second


@pytest.mark.processes
@pytest.mark.parametrize("model", ["fake:languages=en", pytest.param("bundled:tiny.en", marks=pytest.mark.model)])
def test_what_a_model_cannot_do_is_refused_before_any_work(model):
    with Engine(model, device="cpu", replicas=1) as engine:
        for options in (DecodingOptions(language="ko"), DecodingOptions(task="translate")):
            with pytest.raises(JobError) as caught:
                engine.submit(np.zeros(RATE, np.float32), options).result(5)
            assert caught.value.code == "invalid_options"
