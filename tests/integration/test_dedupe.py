"""Which earlier transcript a job with `dedupe=True` reuses, and when it gets one of its own."""

import json
import time
from dataclasses import replace

import pytest
from live import current, jobs, store

from config.settings import SHAPING, Settings
from pipeline import dedupe
from voicemill import options
from voicemill.options import Options
from voicemill.store import keys

pytestmark = pytest.mark.usefixtures("redis_url")

OTHERS = {"whisper_model": "base", "whisper_beam_size": 1, "normalize_loudness": True}


def job(name="first", **options):
    jobs.create(name, "voice.ogg", Options(**options))
    return jobs.get(name)


def transcribed(*, degraded=False):
    first = job()
    jobs.finish("first", "transcribe", {"transcript": {"text": "Hello."} | ({"degraded": True} if degraded else {})})
    dedupe.remember(current(), Settings(), first, "abc")


def found(again, fingerprint="abc", **settings):
    try:
        dedupe.check(current(), Settings(**settings), again, fingerprint)
    except dedupe.Duplicate as duplicate:
        return duplicate.job.id
    return None


def test_the_same_bytes_with_the_same_options_are_found_and_no_others():
    transcribed()

    assert found(job("again")) == "first"
    assert found(job("again"), "abd") is None
    assert found(job("other", language="ko")) is None


def test_the_transcript_of_a_deleted_job_is_not_reused():
    transcribed()
    jobs.delete("first")
    assert found(job("again")) is None


def test_a_degraded_transcript_is_reused_only_while_no_gpu_would_write_a_better_one():
    transcribed(degraded=True)
    assert found(job("again")) == "first"

    client, now = store.redis, time.time()
    worker = {"host": "box", "pid": 1, "stages": ["transcribe"], "since": now, "gpus": [{"name": "a GPU"}]}
    client.hset(keys.WORKERS, "id", json.dumps(worker))
    client.zadd(keys.HEARTBEATS, {"id": now * 1000})
    assert found(job("later")) is None


@pytest.mark.parametrize("name", OTHERS)
def test_a_transcript_made_with_other_settings_is_not_reused(name):
    transcribed()
    assert found(job("again"), **{name: OTHERS[name]}) is None


def reused(another, settings):
    try:
        dedupe.check(current(), settings, another, "abc")
    except dedupe.Duplicate:
        return True
    return False


@pytest.mark.parametrize("name", options.TABLE)
def test_a_transcript_is_reused_by_jobs_that_differ_in_no_option_that_shapes_it(name):
    transcribed()
    again = job("again")
    differing = replace(again, options=replace(again.options, **{name: "another"}))

    assert reused(again, Settings())
    assert reused(differing, Settings()) is (name not in options.SHAPING)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_transcript_is_reused_under_settings_that_differ_in_none_that_shapes_it(name):
    transcribed()
    differing = Settings().model_copy(update={name: "another"})

    assert reused(job("again"), differing) is (name not in SHAPING)


def test_the_options_and_settings_that_shape_a_transcript_are_known():
    assert set(options.SHAPING) == {"language", "task", "prompt", "hotwords", "word_timestamps", "stream"}
    assert {"whisper_model", "whisper_compute_type", "whisper_beam_size", "encoder_window"} < set(SHAPING)
    assert "normalize_loudness" in SHAPING
