"""Which looks a window gets: how much of its 30 s the encoder sees, and what is done where the guard doubts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hearing import SENTENCE, word_error_rate

from pipeline.transcribe import Options, guard, hallucinations, look, models, recognizer
from pipeline.transcribe.recognizer import Recognizer
from pipeline.transcribe.window import Piece, Window

RATE = 16_000
QUICK_BEAM = look.SHORT_LOOKS[384][0].beam_size  # tiny's


class Watched:
    """The model itself, and what it was asked for."""

    def __init__(self, model):
        self._model = model
        self.looks = []  # frames / 2, beam size, and temperature of each
        self.prompts = []  # tokens

    def __getattr__(self, name):
        return getattr(self._model, name)

    def generate(self, encoded, prompts, **asked):
        self.prompts += prompts
        sampled = asked["sampling_topk"] != 1
        self.looks.append((encoded.shape[1], asked["beam_size"], asked["sampling_temperature"] if sampled else 0.0))
        return self._model.generate(encoded, prompts, **asked)


def watched(encoder_window="auto", beam_size=5):
    found = Recognizer(models.resolve("bundled:tiny.en"), "cpu", "int8", 1, encoder_window, beam_size)
    found._model = Watched(found._model)
    return found


def window(audio):
    seconds = len(audio) / RATE
    return Window(audio, (Piece(0.0, 0.0, seconds),), ((0.0, seconds),))


@pytest.fixture(scope="module")
def tiny():
    return watched()


@pytest.fixture
def hiss():
    """A window that the VAD would never let through: whatever is read into it is doubtful."""
    return window(np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32))


@pytest.mark.parametrize(
    ("encoder_window", "frames", "longest"),
    [("auto", 1000, (20.0, 15.0)), ("full", 3000, (30.0, 30.0)), ("15", 1500, (20.0, 15.0))],
)
def test_the_encoder_sees_as_much_as_the_operator_says(speak, encoder_window, frames, longest):
    chosen = watched(encoder_window)
    chosen.run([(window(speak("Please call me.")), Options())])
    assert chosen._model.looks[0] == (frames / 2, QUICK_BEAM, 0.0)
    assert (chosen.window, chosen.long_window) == longest


def test_a_size_of_which_nothing_is_measured_gets_the_full_window(monkeypatch):
    assert set(look.SHORT_LOOKS) == {384, 512}  # tiny and base; another needs its measurement beside it
    monkeypatch.setattr(recognizer, "SHORT_LOOKS", {512: look.SHORT_LOOKS[512]})
    assert watched().window == watched().long_window == 30.0


def test_a_doubtful_window_gets_the_sender_s_beam_in_full_and_no_more_where_it_is_silence(tiny, hiss):
    tiny._model.looks.clear()
    [result] = tiny.run([(hiss, Options(beam_size=3))])
    assert tiny._model.looks == [(500, QUICK_BEAM, 0.0), (500, QUICK_BEAM, 0.0), (1500, 3, 0.0)]
    assert result.segments == ()


def test_what_counts_as_silence_is_the_sender_s_to_say_and_the_rest_is_tried_at_rising_temperature(
    tiny, hiss, monkeypatch
):
    monkeypatch.setattr(recognizer, "_doubt", lambda *_, **__: "improbable")  # what is sampled differs every time
    tiny._model.looks.clear()
    tiny.run([(hiss, Options(no_speech_threshold=1.0))])
    full = [asked[1:] for asked in tiny._model.looks[2:]]
    assert full == [(5, 0.0), (1, 0.2), (1, 0.4), (1, 0.6), (1, 0.8), (1, 1.0)]


@pytest.mark.parametrize(
    "options",
    [Options(language="en"), Options(language="en", prompt="many words " * 200), Options(language="el")],
    ids=["no prompt", "long prompt", "many tokens a second"],
)
def test_a_text_can_use_its_whole_token_budget(tiny, hiss, monkeypatch, options):
    """CTranslate2 halves `max_length` for the text and reports nothing when the tokens are spent."""
    written = []
    generate = tiny._model.generate

    def endless(*arguments, **asked):
        written.extend(generate(*arguments, **asked, suppress_tokens=[-1, tiny._tokenizer(options).eot]))
        return written

    monkeypatch.setattr(tiny._model, "generate", endless)
    quick = tiny._looks[0]
    tiny._drafts(tiny._encode([tiny._features(hiss.audio)], quick), [hiss.duration], [(options, None)], quick)
    budget = guard.budget(hiss.duration, options.language, short=True)
    assert budget <= len(written[0].sequences_ids[0]) <= budget + 1


@pytest.mark.parametrize(
    ("probability", "expected", "frames"), [(0.46, ("de", 0.9), [500, 1500]), (0.54, ("th", 0.54), [500])]
)
def test_an_uncertain_language_is_detected_again_on_the_full_window(
    tiny, hiss, monkeypatch, probability, expected, frames
):
    seen = []

    def detect(encoded):
        seen.append(encoded.shape[1])
        return [[("<|de|>", 0.9) if encoded.shape[1] == 1500 else ("<|th|>", probability)]]

    monkeypatch.setattr(tiny._model, "is_multilingual", True)
    monkeypatch.setattr(tiny._model, "detect_language", detect)
    features = [tiny._features(hiss.audio)]
    [(options, found)] = tiny._with_languages(tiny._encode(features, tiny._looks[0]), features, [Options()])
    assert (options.language, found) == expected
    assert seen == frames


def test_a_language_keeps_its_probability_when_a_later_look_is_believed(tiny, hiss, monkeypatch):
    def detected_once(_encoded, _features, options):
        return [(replace(option, language="de"), None if option.language else 0.7) for option in options]

    monkeypatch.setattr(tiny, "_with_languages", detected_once)
    for believed in ("quick", "second", "beam"):
        monkeypatch.setattr(
            recognizer, "_doubt", lambda attempt, *_, name=believed, **__: None if attempt.look.name == name else "!"
        )
        [result] = tiny.run([(hiss, Options())])
        assert (result.look, result.language_probability) == (believed, 0.7)


def test_what_the_full_window_leaves_out_is_transcribed_in_halves(tiny, speak, monkeypatch):
    sentence = speak(SENTENCE)
    second_at = len(sentence) / RATE + 1
    audio = np.concatenate([sentence, np.zeros(RATE, np.float32), sentence])
    seconds = len(audio) / RATE
    whole = Window(audio, (Piece(0.0, 0.0, seconds),), ((0.0, second_at - 1), (second_at, seconds)))
    monkeypatch.setattr(
        recognizer, "_doubt", lambda _, seen, *__, **___: "a phrase repeated" if seen is whole else None
    )
    monkeypatch.setattr(tiny, "_leaves_out", lambda *_: True)
    [result] = tiny.run([(whole, Options())])
    assert result.look == "halves"
    assert word_error_rate(" ".join(each.text for each in result.segments), f"{SENTENCE} {SENTENCE}") < 0.4
    assert result.segments[-1].start == pytest.approx(second_at, abs=1.0)


def test_the_model_reads_hotwords_and_prompt_before_the_message_of_their_own_sender_alone(tiny, speak):
    spoken = window(speak("Please call me."))
    tiny._model.prompts.clear()
    tiny.run([(spoken, Options(prompt="To Kathryn.", hotwords="Voicemill")), (spoken, Options())])
    read = [tiny._whisper.hf_tokenizer.decode(each) for each in tiny._model.prompts]
    assert set(read) == {"", " Voicemill To Kathryn."}


def test_a_phrase_of_subtitlers_is_no_segment_where_the_model_doubts_the_voice(tiny, speak, monkeypatch):
    work = [(window(speak("Please call me.")), Options())]
    [segment] = tiny.run(work)[0].segments
    monkeypatch.setattr(hallucinations, "PHRASES", {segment.text.lower().strip(".")})
    monkeypatch.setattr(hallucinations, "DOUBTFUL", -1.0)
    assert tiny.run(work)[0].segments == ()
