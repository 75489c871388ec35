"""The `enrich` command, and jobs that are deleted or cancelled while their summary is written."""

import argparse

import gemini_server as google
import pytest
from live import jobs, spending, store

from cli import enrich
from voicemill.errors import JobError
from voicemill.job import Enrichment
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.spending import Spent

TRANSCRIPT = {"text": "Please move the review to Thursday.", "language": "en", "no_speech": False}
LONG = {"text": " ".join(f"Sentence number {number} is about the plan." for number in range(400)), "language": "en"}


@pytest.fixture
def again(gemini, redis_url, monkeypatch):
    """Return a function that runs the command and returns its exit code."""
    monkeypatch.setenv("GEMINI_API_KEY", google.KEY)
    monkeypatch.setenv("GEMINI_ENDPOINT", gemini.url)
    usual = {"prompt": None, "model": None, "timeout": enrich.TIMEOUT}
    return lambda *ids, **options: enrich.run(argparse.Namespace(id=ids, **usual | options))


def done(job_id, transcript=TRANSCRIPT):
    jobs.create(job_id, "voice.ogg", Options())
    jobs.finish(job_id, "transcribe", {"transcript": transcript}, following=None)
    return job_id


def test_silent_and_unknown_jobs_are_reported_and_do_not_stop_the_others(again, gemini, capsys):
    done("silent", TRANSCRIPT | {"no_speech": True})
    done("empty", TRANSCRIPT | {"text": " "})
    done("good")
    jobs.create("early", "voice.ogg", Options())

    assert again("silent", "unknown", "early", "empty", "good") == 4
    assert jobs.get("good").enrichment.title
    assert jobs.get("silent").enrichment is None
    assert len(gemini.requests) == 1
    printed = capsys.readouterr().err
    assert "silent: enrich_no_transcript: the recording has no speech" in printed
    assert "unknown" in printed
    assert "early: enrich_no_transcript: the job is queued, not done" in printed
    assert again("silent") == 1


def test_an_unfinished_job_is_refused_before_any_request(again, gemini, capsys):
    jobs.create("busy", "voice.ogg", Options())
    jobs.finish("busy", "transcribe", {"transcript": TRANSCRIPT})
    assert again("busy") == 1
    assert "the job is transcribed" in capsys.readouterr().err
    assert not gemini.requests


def test_a_prompt_file_is_relative_to_the_working_folder(again, gemini, tmp_path, monkeypatch):
    (tmp_path / "brief.txt").write_text("In one line: $transcript", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert again(done("j"), prompt=tmp_path.joinpath("brief.txt").relative_to(tmp_path)) == 0
    assert "In one line" in gemini.requests[0].text


def test_failures_of_an_earlier_run_do_not_count(again, gemini):
    spending.add(done("j"), 60, Spent(tries=11, failures=11))
    gemini.plan(google.failure(503, "UNAVAILABLE", "Overloaded.", google.retry_info(0.1)))
    assert again("j") == 0
    assert jobs.get("j").enrichment.tries == 2


def test_a_summary_of_a_job_deleted_meanwhile_is_a_failure(again, gemini, capsys):
    gemini.decide = lambda _body: jobs.delete("j")
    assert again(done("j")) == 1
    assert "deleted" in capsys.readouterr().err


def test_an_outage_longer_than_the_timeout_keeps_the_old_summary(again, gemini, capsys):
    jobs.rewrite(done("j"), Enrichment.from_dict({"title": "The old one"}))
    gemini.plan(google.overloaded())

    assert again("j", timeout=0.5) == 5
    assert jobs.get("j").enrichment.title == "The old one"
    assert "not written within 0.5 s: the job keeps the summary it had" in capsys.readouterr().err


@pytest.mark.parametrize("end", [jobs.delete, jobs.cancel])
def test_a_deleted_or_cancelled_job_sends_no_more_requests_and_leaves_no_data(gemini, enricher, end):
    jobs.create("j", "voice.ogg", Options())
    jobs.finish("j", "transcribe", {"transcript": LONG})

    def decide(body):
        if "notes" in str(body.get("generationConfig")):
            end("j")

    gemini.decide = decide
    with pytest.raises(JobError, match="deleted or cancelled") as caught:
        enricher(enrich_part_tokens=1500).enrich("j", LONG)
    assert caught.value.retry_after is None
    assert len(gemini.generated()) == 1
    kept = store.redis.hgetall(keys.spending("j"))
    assert not any(b"notes" in value for value in kept.values())
