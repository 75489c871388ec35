"""The enrich stage as its own worker, against a server that speaks Gemini's wire format."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import ANY

import gemini_server
import pytest
from live import jobs, store
from processes import becomes

from config.environment import STATE
from voicemill.options import Options
from voicemill.store import keys
from voicemill.transcript import Transcript

CLONE = STATE.parent
TRANSCRIPT = {"text": "Please call Anna about the slides.", "language": "en", "no_speech": False, "segments": []}
KEPT = Transcript.from_dict(TRANSCRIPT)


@pytest.fixture
def gemini():
    with gemini_server.GeminiServer() as server:
        yield server


@pytest.fixture
def enrich_worker(redis_url, gemini):
    """Start a worker of the enrich stage that talks to the local Gemini."""
    started = []

    def start(**variables):
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
            "REDIS_URL": redis_url,
            "GEMINI_API_KEY": gemini_server.KEY,
            "GEMINI_ENDPOINT": gemini.url,
            "LOG_FORMAT": "json",
        }
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dramatiq"), "actors.enrich", "--skip-logging", "--processes", "1"],
            cwd=CLONE,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        reader.start()
        started.append((process, reader))
        return lines

    yield start
    for process, reader in started:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()


def send(job_id, transcript=TRANSCRIPT):
    jobs.create(job_id, "voice.ogg", Options(metadata={"chat": 7}))
    jobs.finish(job_id, "transcribe", {"transcript": transcript})
    return job_id


def test_a_transcript_gets_its_validated_summary_with_what_it_cost(enrich_worker, gemini):
    enrich_worker()
    job = jobs.wait(send("j"), timeout=60)

    assert job.status == "done"
    assert job.enrichment.title
    assert job.enrichment.usage.input_tokens > 0
    assert TRANSCRIPT["text"] in gemini.generated()[0].text
    assert job.enrichment_error is None


def test_an_overload_is_retried_by_the_queue_and_the_summary_is_written(enrich_worker, gemini):
    quoting = gemini_server.failure(503, "UNAVAILABLE", f"Overloaded by: {TRANSCRIPT['text']}")
    gemini.plan(quoting, gemini_server.rate_limited(0.5))
    lines = enrich_worker()

    job = jobs.wait(send("j"), timeout=60)

    assert job.enrichment is not None, job.enrichment_error
    assert job.stages["enrich"].attempts == 3
    assert any("Stage is retried" in line for line in lines)
    assert not any("Traceback" in line or TRANSCRIPT["text"] in line for line in lines)


@pytest.mark.parametrize(
    ("variables", "planned", "code"),
    [
        ({"GEMINI_API_KEY": "wrong"}, [], "enrich_invalid_key"),
        ({"GEMINI_MODEL": "gemini-1.5-flash"}, [], "enrich_unknown_model"),
        ({}, [gemini_server.blocked_prompt()], "enrich_blocked"),
        ({"ENRICH_DEADLINE": "30"}, [gemini_server.rate_limited(60)], "enrich_deadline"),
    ],
)
def test_a_summary_that_fails_never_costs_the_transcript(enrich_worker, gemini, variables, planned, code):
    gemini.plan(*planned)
    lines = enrich_worker(**variables)

    job = jobs.wait(send("j"), timeout=60)

    assert (job.status, job.enrichment_error.code, job.transcript) == ("done", code, KEPT)
    assert job.error is None
    spent = job.enrichment_error.spent
    assert (spent["tries"], spent["model"]) == (1, ANY)
    assert spent["usage"]["output_tokens"] == 0
    assert becomes(lambda: [json.loads(line)["code"] for line in lines if "Summary given up" in line] == [code])
    assert not store.redis.exists(keys.spending("j")), "nothing of it counts against another run"
    assert not any("Traceback" in line or TRANSCRIPT["text"] in line for line in lines)


def test_a_job_that_waited_too_long_for_a_worker_ends_without_a_request(enrich_worker, gemini):
    store.redis.hset(keys.record(send("j")), "enrich.queued_at", time.time() - 60)
    enrich_worker(ENRICH_DEADLINE="30")

    job = jobs.wait("j", timeout=60)

    assert (job.status, job.enrichment_error.code, job.transcript) == ("done", "enrich_deadline", KEPT)
    assert not gemini.requests


def test_a_summary_is_written_again_without_touching_the_transcript(enrich_worker, gemini, redis_url):
    enrich_worker()
    first = jobs.wait(send("j"), timeout=60)
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "GEMINI_API_KEY": gemini_server.KEY,
        "GEMINI_ENDPOINT": gemini.url,
    }

    command = [sys.executable, "-m", "pipeline", "enrich", "j", "--model", "gemini-flash-latest"]
    ran = subprocess.run(command, cwd=CLONE, env=environment, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 0, ran.stderr
    again = jobs.get("j")
    assert (again.status, again.transcript) == ("done", first.transcript)
    assert [request.model for request in gemini.generated()] == ["gemini-flash-lite-latest", "gemini-flash-latest"]
    assert again.enrichment.tries == 1
    assert ran.stdout == f"j: {again.enrichment.title}\n"


def test_silence_is_not_sent_to_the_provider(enrich_worker, gemini):
    enrich_worker()

    for job_id, silence in (("empty", {"text": " "}), ("noise", {"no_speech": True})):
        job = jobs.wait(send(job_id, TRANSCRIPT | silence), timeout=60)
        assert "no speech" in job.enrichment_skipped
    assert not gemini.requests


def test_an_invalid_schema_or_prompt_ends_the_worker_at_its_start(enrich_worker):
    lines = enrich_worker(ENRICH_SCHEMA="/no/such/schema.json")
    assert becomes(lambda: any("enrich: ENRICH_SCHEMA is '/no/such/schema.json'" in line for line in lines))
    assert not any("Traceback" in line for line in lines)


def test_the_start_logs_that_gemini_is_ready_and_not_that_the_sdk_is_deprecated(enrich_worker):
    lines = enrich_worker()
    jobs.wait(send("j"), timeout=60)

    assert becomes(lambda: any("Gemini ready" in line for line in lines))
    ready = [json.loads(line) for line in lines if "Gemini ready" in line]
    assert ready[0]["model"] == "gemini-flash-lite-latest"
    assert not any("FutureWarning" in line for line in lines)
