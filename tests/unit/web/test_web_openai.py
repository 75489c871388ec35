"""Transcripts in OpenAI's formats, and the clock that tells the door's time from the workers'."""

import json
import time

import openai
import pytest
from openai.types.audio import TranscriptionVerbose
from stub_engine import TRANSCRIPT

from config.settings import Settings
from web.access import Clock
from web.openai import rendered
from web.problems import answer, of_job


def told(form, task="transcribe", granularities=("segment",)):
    return rendered(TRANSCRIPT, form, task, granularities).body.decode()


def test_json_holds_the_text_and_what_it_is_charged_by():
    assert json.loads(told("json")) == {"text": TRANSCRIPT["text"], "usage": {"type": "duration", "seconds": 1}}


def test_verbose_json_has_segments_or_words_or_both_as_asked_for():
    both = json.loads(told("verbose_json", granularities=("word", "segment")))
    words = json.loads(told("verbose_json", granularities=("word",)))

    assert both["language"] == "english"
    for name in ("start", "end", "text", "avg_logprob", "no_speech_prob"):
        assert both["segments"][0][name] == TRANSCRIPT["segments"][0][name]
    assert [word["word"] for word in words["words"]] == TRANSCRIPT["text"].split()
    assert "segments" not in words


def test_a_translation_is_english_whatever_was_spoken():
    german = TRANSCRIPT | {"language": "de"}

    assert json.loads(rendered(german, "verbose_json", "translate", ["segment"]).body)["language"] == "english"
    assert json.loads(rendered(german, "verbose_json", "transcribe", ["segment"]).body)["language"] == "german"


def test_a_transcript_without_speech_is_an_empty_text_in_every_format():
    silent = TRANSCRIPT | {"text": "", "segments": [], "no_speech": True, "language": None}

    for form in ("json", "text", "srt", "vtt", "verbose_json"):
        assert rendered(silent, form, "transcribe", ["word", "segment"]).status_code == 200


def test_where_nobody_speaks_the_language_is_text_all_the_same():
    silent = TRANSCRIPT | {"text": "", "segments": [], "no_speech": True, "language": None}

    body = json.loads(rendered(silent, "verbose_json", "transcribe", ["segment"]).body)

    assert TranscriptionVerbose.model_validate(body).language == ""


def test_the_door_gives_up_before_an_openai_client_does_who_would_end_the_job_and_send_it_again():
    assert Settings().api_wait_timeout + 30 <= openai.DEFAULT_TIMEOUT.read


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("undecodable", 400),
        ("invalid_options", 400),
        ("source_too_large", 413),
        ("system_full", 503),
        ("internal", 500),
    ],
)
def test_every_error_is_the_senders_the_moments_or_ours(code, status):
    response = answer(of_job(code, "something"))

    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)
    assert json.loads(response.body)["error"]["code"] == code


def test_time_spent_away_counts_once_however_many_wait():
    clock = Clock()
    with clock.away(), clock.away():
        time.sleep(0.05)

    assert 0.05 <= clock.elsewhere <= time.perf_counter() - clock.began
    assert clock.own() >= 0
