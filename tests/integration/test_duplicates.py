"""Whose transcript the same message gets again, and when it gets one of its own."""

import json
import time

import pytest
from live import jobs, store

from config import settings
from pipeline import dedupe as duplicates
from voicemill.options import Options
from voicemill.store import keys

pytestmark = pytest.mark.usefixtures("redis_url")

ANOTHER = {"WHISPER_MODEL": "base", "WHISPER_BEAM_SIZE": "1", "NORMALIZE_LOUDNESS": "true"}


@pytest.fixture(autouse=True)
def _settings_read_anew():
    yield
    settings.get.cache_clear()


def job(name="first", **options):
    jobs.create(name, "voice.ogg", Options(**options))
    return jobs.get(name)


def transcribed(*, degraded=False):
    first = job()
    jobs.finish("first", "transcribe", {"transcript": {"text": "Hello."} | ({"degraded": True} if degraded else {})})
    duplicates.remember(first, "abc")


def found(again, fingerprint="abc"):
    try:
        duplicates.look(again, fingerprint)
    except duplicates.Found as twin:
        return twin.job.id
    return None


def test_the_same_bytes_with_the_same_options_are_found_and_no_others():
    transcribed()

    assert found(job("again")) == "first"
    assert found(job("again"), "abd") is None
    assert found(job("other", language="ko")) is None


def test_a_transcript_whose_job_was_deleted_is_not_found():
    transcribed()
    jobs.delete("first")
    assert found(job("again")) is None


def test_a_degraded_transcript_is_handed_on_only_while_no_gpu_would_write_a_better_one():
    transcribed(degraded=True)
    assert found(job("again")) == "first"

    client, now = store.redis, time.time()
    worker = {"host": "box", "pid": 1, "stages": ["transcribe"], "since": now, "gpus": [{"name": "a GPU"}]}
    client.hset(keys.WORKERS, "id", json.dumps(worker))
    client.zadd(keys.HEARTBEATS, {"id": now * 1000})
    assert found(job("later")) is None


@pytest.mark.parametrize("variable", ANOTHER)
def test_what_other_settings_made_is_not_handed_on(monkeypatch, variable):
    transcribed()
    monkeypatch.setenv(variable, ANOTHER[variable])
    settings.get.cache_clear()
    assert found(job("again")) is None
