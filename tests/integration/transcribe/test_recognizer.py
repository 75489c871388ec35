"""Which passes Whisper makes over a window: how much of its 30 s the encoder sees, and what follows a rejection."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from hearing import SENTENCE, word_error_rate

from pipeline.transcribe import DecodingOptions
from pipeline.transcribe.backends.base import WindowRequest
from pipeline.transcribe.backends.whisper import models, quality
from pipeline.transcribe.backends.whisper.passes import QUICK_PASSES
from pipeline.transcribe.backends.whisper.recognizer import WhisperRecognizer
from pipeline.transcribe.window import Piece, Window

pytestmark = pytest.mark.model

RATE = 16_000
QUICK_BEAM = QUICK_PASSES[384][0].beam_size  # tiny's


class Watched:
    """The model itself, and what it was asked for."""

    def __init__(self, model, **instead):
        self._model = model
        self.passes = []  # frames / 2, beam size, and temperature of each
        self.prompts = []  # tokens
        vars(self).update(instead)

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, encoded, prompts, **asked):
        self.prompts += prompts
        sampled = asked["sampling_topk"] != 1
        self.passes.append((encoded.shape[1], asked["beam_size"], asked["sampling_temperature"] if sampled else 0.0))
        return self._model.generate(encoded, prompts, **asked)


def watched(encoder_window="auto", beam_size=5, **instead):
    path = models.resolve("bundled:tiny.en")
    found = WhisperRecognizer(path, "cpu", "int8", 1, encoder_window, beam_size, **instead)
    found._model = Watched(found._model)
    return found


def variant(recognizer, **instead):
    """Return the same loaded model with other attributes."""
    other = copy.copy(recognizer)
    vars(other).update(instead)
    return other


def run(recognizer, *work):
    return recognizer.run([WindowRequest(window, options, options.language) for window, options in work])


def window(audio):
    seconds = len(audio) / RATE
    return Window(audio, (Piece(0.0, 0.0, seconds),), ((0.0, seconds),))


@pytest.fixture(scope="module")
def tiny():
    return watched()


@pytest.fixture
def hiss():
    """A window that no voice detector would let through: whatever is read into it is rejected."""
    return window(np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32))


@pytest.mark.parametrize(
    ("encoder_window", "frames", "longest"),
    [("auto", 1000, (20.0, 15.0)), ("full", 3000, (30.0, 30.0)), ("15", 1500, (20.0, 15.0))],
)
def test_the_encoder_sees_as_much_as_the_operator_says(speak, encoder_window, frames, longest):
    chosen = watched(encoder_window)
    run(chosen, (window(speak("Please call me.")), DecodingOptions()))
    assert chosen._model.passes[0] == (frames / 2, QUICK_BEAM, 0.0)
    assert (chosen.capabilities.longest_window, chosen.capabilities.long_message_window) == longest


def test_a_size_without_measurements_gets_the_full_window():
    assert set(QUICK_PASSES) == {384, 512}  # tiny and base; another needs its measurement beside it
    known = watched(quick_passes={512: QUICK_PASSES[512]}).capabilities
    assert known.longest_window == known.long_message_window == 30.0


def test_a_rejected_window_gets_the_sender_s_beam_in_full_and_no_more_if_it_is_silence(tiny, hiss):
    tiny._model.passes.clear()
    [result] = run(tiny, (hiss, DecodingOptions(beam_size=3)))
    assert tiny._model.passes == [(500, QUICK_BEAM, 0.0), (500, QUICK_BEAM, 0.0), (1500, 3, 0.0)]
    assert result.segments == ()


def test_the_sender_sets_what_counts_as_silence_and_the_rest_is_tried_at_rising_temperature(tiny, hiss):
    strict = variant(tiny, _reject_reason=lambda *_, **__: "improbable")  # what is sampled differs every time
    tiny._model.passes.clear()
    run(strict, (hiss, DecodingOptions(no_speech_threshold=1.0)))
    full = [asked[1:] for asked in tiny._model.passes[2:]]
    assert full == [(5, 0.0), (1, 0.2), (1, 0.4), (1, 0.6), (1, 0.8), (1, 1.0)]


@pytest.mark.parametrize(
    "options",
    [
        DecodingOptions(language="en"),
        DecodingOptions(language="en", prompt="many words " * 200),
        DecodingOptions(language="el"),
    ],
    ids=["no prompt", "long prompt", "many tokens a second"],
)
def test_a_text_can_use_its_whole_token_budget(tiny, hiss, options):
    """CTranslate2 halves `max_length` for the text and reports nothing when the tokens are spent."""
    written = []
    generate = tiny._model.generate

    def endless(*arguments, **asked):
        written.extend(generate(*arguments, **asked, suppress_tokens=[-1, tiny._tokenizer(options).eot]))
        return written

    writing = variant(tiny, _model=Watched(tiny._model, generate=endless))
    quick = writing._quick_passes[0]
    encoded = writing._encode([writing._features(hiss.audio)], quick)
    writing._drafts(encoded, [hiss.duration], [(options, None)], quick)
    budget = quality.token_budget(hiss.duration, options.language, short=True)
    assert budget <= len(written[0].sequences_ids[0]) <= budget + 1


@pytest.mark.parametrize(
    ("probability", "expected", "frames"), [(0.46, ("de", 0.9), [500, 1500]), (0.54, ("th", 0.54), [500])]
)
def test_an_uncertain_language_is_detected_again_on_the_full_window(tiny, hiss, probability, expected, frames):
    seen = []

    def detect(encoded):
        seen.append(encoded.shape[1])
        return [[("<|de|>", 0.9) if encoded.shape[1] == 1500 else ("<|th|>", probability)]]

    detecting = variant(tiny, _model=Watched(tiny._model, is_multilingual=True, detect_language=detect))
    features = [detecting._features(hiss.audio)]
    encoded = detecting._encode(features, detecting._quick_passes[0])
    [(options, found)] = detecting._with_languages(encoded, features, [DecodingOptions()])
    assert (options.language, found) == expected
    assert seen == frames


def test_a_language_keeps_its_probability_when_a_later_pass_is_accepted(tiny, hiss):
    def detected_once(_encoded, _features, options):
        return [(replace(option, language="de"), None if option.language else 0.7) for option in options]

    for accepted in ("quick", "second", "beam"):

        def reject(attempt, *_, name=accepted, **__):
            return None if attempt.decoding_pass.name == name else "!"

        [result] = run(variant(tiny, _with_languages=detected_once, _reject_reason=reject), (hiss, DecodingOptions()))
        assert (result.decoding_pass, result.language_probability) == (accepted, 0.7)


def test_speech_that_the_full_window_omits_is_transcribed_in_halves(tiny, speak):
    sentence = speak(SENTENCE)
    second_at = len(sentence) / RATE + 1
    audio = np.concatenate([sentence, np.zeros(RATE, np.float32), sentence])
    seconds = len(audio) / RATE
    whole = Window(audio, (Piece(0.0, 0.0, seconds),), ((0.0, second_at - 1), (second_at, seconds)))

    def reject(_, seen, *__, **___):
        return "a phrase repeated" if seen is whole else None

    [result] = run(variant(tiny, _reject_reason=reject, _omits_speech=lambda *_: True), (whole, DecodingOptions()))
    assert result.decoding_pass == "halves"
    assert word_error_rate(" ".join(each.text for each in result.segments), f"{SENTENCE} {SENTENCE}") < 0.4
    assert result.segments[-1].start == pytest.approx(second_at, abs=1.0)


def test_the_model_reads_hotwords_and_prompt_before_the_message_of_their_own_sender_alone(tiny, speak):
    spoken = window(speak("Please call me."))
    tiny._model.prompts.clear()
    run(
        tiny,
        (spoken, DecodingOptions(prompt="To Kathryn.", hotwords="Voicemill")),
        (spoken, DecodingOptions()),
    )
    read = [tiny._whisper.hf_tokenizer.decode(each) for each in tiny._model.prompts]
    assert set(read) == {"", " Voicemill To Kathryn."}


def test_a_hallucination_gives_no_segment(tiny, speak):
    work = (window(speak("Please call me.")), DecodingOptions())
    [segment] = run(tiny, work)[0].segments
    strict = variant(tiny, _hallucinated=lambda draft: draft.text == segment.text)
    assert run(strict, work)[0].segments == ()
