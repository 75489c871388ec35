"""Transcripts in OpenAI's formats, answers to failed jobs, and the server's own time."""

import json
import time
from dataclasses import replace

import openai
import pytest
from openai.types.audio import TranscriptionVerbose
from stub_engine import TRANSCRIPT

from config.settings import Settings
from voicemill import ErrorCode, Failure
from web.access import RequestTimer
from web.openai import rendered
from web.problems import answer, of_error, of_failure


def body(form, task="transcribe", granularities=("segment",)):
    return rendered(TRANSCRIPT, form, task, granularities).body.decode()


def test_json_has_the_text_and_its_usage():
    assert json.loads(body("json")) == {"text": TRANSCRIPT.text, "usage": {"type": "duration", "seconds": 1}}


def test_verbose_json_has_segments_or_words_or_both_as_requested():
    both = json.loads(body("verbose_json", granularities=("word", "segment")))
    words = json.loads(body("verbose_json", granularities=("word",)))

    assert both["language"] == "english"
    for name in ("start", "end", "text", "avg_logprob", "no_speech_prob"):
        assert both["segments"][0][name] == getattr(TRANSCRIPT.segments[0], name)
    assert [word["word"] for word in words["words"]] == TRANSCRIPT.text.split()
    assert "segments" not in words


def test_a_translation_is_english_whatever_was_spoken():
    german = replace(TRANSCRIPT, language="de")

    assert json.loads(rendered(german, "verbose_json", "translate", ["segment"]).body)["language"] == "english"
    assert json.loads(rendered(german, "verbose_json", "transcribe", ["segment"]).body)["language"] == "german"


def test_a_transcript_without_speech_is_an_empty_text_in_every_format():
    silent = replace(TRANSCRIPT, text="", segments=(), no_speech=True, language=None)

    for form in ("json", "text", "srt", "vtt", "verbose_json"):
        assert rendered(silent, form, "transcribe", ["word", "segment"]).status_code == 200


def test_the_language_is_text_even_if_nobody_speaks():
    silent = replace(TRANSCRIPT, text="", segments=(), no_speech=True, language=None)

    parsed = json.loads(rendered(silent, "verbose_json", "transcribe", ["segment"]).body)

    assert TranscriptionVerbose.model_validate(parsed).language == ""


def test_the_server_times_out_before_an_openai_client_which_would_cancel_and_resend_the_job():
    assert Settings().api_wait_timeout + 30 <= openai.DEFAULT_TIMEOUT.read


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.UNDECODABLE, 400),
        (ErrorCode.INVALID_OPTIONS, 400),
        (ErrorCode.SOURCE_TOO_LARGE, 413),
        (ErrorCode.SYSTEM_FULL, 503),
        (ErrorCode.INTERNAL, 500),
    ],
)
def test_the_status_says_whether_the_sender_can_fix_an_error_or_a_retry_can(code, status):
    response = answer(of_error(code, "something"))

    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)
    assert json.loads(response.body)["error"]["code"] == code


@pytest.mark.parametrize(("retryable", "status", "param"), [(False, 400, "file"), (True, 503, None)])
def test_an_error_of_a_newer_version_is_answered_by_what_its_record_says(retryable, status, param):
    problem = of_failure(Failure("from_the_future", "It broke", retryable, "Upgrade."), param="file")

    assert (problem.status, problem.message, problem.param) == (status, "It broke. Upgrade.", param)


def test_time_spent_away_counts_once_however_many_wait():
    timer = RequestTimer()
    with timer.away(), timer.away():
        time.sleep(0.05)

    assert 0.05 <= timer.elsewhere <= time.perf_counter() - timer.began
    assert timer.own() >= 0
