"""The engine with a real model in real processes."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from hearing import SENTENCE, word_error_rate

from pipeline.transcribe import Options
from voicemill.errors import JobError


def test_words_come_back_on_the_message_s_own_clock(engine, speak):
    audio = np.concatenate([np.zeros(16_000 * 3, np.float32), speak(SENTENCE)])
    [transcript] = engine.transcribe([audio])
    assert word_error_rate(transcript.text, SENTENCE) < 0.4
    assert transcript.language == "en"
    assert 2.8 < transcript.segments[0].start < 3.5
    assert transcript.segments[-1].end <= transcript.duration + 0.01
    assert transcript.duration == pytest.approx(len(audio) / 16_000)
    assert (transcript.device, transcript.no_speech) == ("cpu", False)


def test_silence_is_an_empty_transcript_and_no_hallucination(engine):
    [transcript] = engine.transcribe([np.zeros(16_000 * 5, np.float32)])
    assert (transcript.text, transcript.no_speech, transcript.segments) == ("", True, ())


def test_an_english_only_model_refuses_another_language_before_any_work(engine):
    for options in (Options(language="ko"), Options(task="translate")):
        with pytest.raises(JobError) as caught:
            engine.submit(np.zeros(16_000, np.float32), options).result(5)
        assert caught.value.code == "invalid_options"


def test_an_aborted_process_is_replaced_and_its_messages_are_done(engine, speak):
    audio = speak(SENTENCE)
    first = engine.slots[0].pid
    futures = [engine.submit(audio, Options()) for _ in range(12)]
    os.kill(first, signal.SIGABRT)
    assert all(word_error_rate(future.result(60).text, SENTENCE) < 0.4 for future in futures)
    assert engine.alive
