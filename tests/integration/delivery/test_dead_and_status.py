"""`dead` and `status`, as an operator types them."""

import json
import os
import subprocess
import sys

import pytest
from live import audio, jobs, queues, store

from config.environment import STATE
from voicemill.options import Options

STAGE = """
def work(job, context):
    if store.redis.decr("failures:" + job.id) >= 0:
        raise JobError(ErrorCode(store.redis.get("code:" + job.id).decode()), "as the test wants it")
    return Result({"transcript": {"text": job.id}})
WORKER.declare(work)
"""

GPU = """
from actors.gpus import Gpus
reader = Gpus()
BROKER.device, BROKER.gpus = "NVIDIA A10", reader.read
reader.read()
reader.settled()
"""


@pytest.fixture
def pipeline(redis_url):
    """Run a command in a process of its own."""

    def run(*arguments):
        command = [sys.executable, "-m", "pipeline", *arguments]
        environment = os.environ | {"REDIS_URL": redis_url}
        return subprocess.run(command, cwd=STATE.parent, env=environment, capture_output=True, text=True, timeout=60)

    return run


def send(name, code="undecodable", failures=0):
    """Send a job to the transcribe stage that fails so many times."""
    store.redis.set(f"failures:{name}", failures)
    store.redis.set(f"code:{name}", code)
    jobs.create(name, "voice.ogg", Options(enrich=False))
    jobs.finish(name, "decode", {"audio": {}})


def test_dead_letters_are_listed_shown_retried_and_dropped(workers, pipeline, tmp_path):
    (tmp_path / "a.flac").write_bytes(b"x")
    audio.put("one", tmp_path / "a.flac")
    workers.start(STAGE, "transcribe")
    send("one", failures=1)
    send("two", "empty_source", failures=1)
    for name in ("one", "two"):
        assert jobs.wait(name, timeout=60).status == "failed"
    workers.until("Job failed", 2)

    listed = pipeline("dead", "list")
    assert listed.returncode == 0
    assert "undecodable" in listed.stdout
    assert "empty_source" in listed.stdout
    assert "as the test wants it" in listed.stdout  # in full, though nobody said how wide the terminal is
    shown = json.loads(pipeline("dead", "show", "one").stdout)
    assert shown[0]["record"]["error"]["code"] == "undecodable"
    assert pipeline("dead", "retry").returncode == 2  # all of them, unasked
    assert "one: queued for transcribe" in pipeline("dead", "retry", "--code", "undecodable").stdout
    assert jobs.wait("one", timeout=60).status == "done"
    assert "1 dropped" in pipeline("dead", "drop", "--stage", "transcribe").stdout
    assert list(queues.dead_letters()) == []
    assert jobs.get("two").status == "failed"


def test_the_status_shows_live_workers_and_names_the_stages_without_one(workers, pipeline, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text('#!/bin/sh\necho "NVIDIA A10, 4096, 23028, 87, 61"\n')
    smi.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    master = workers.start(STAGE + GPU, "transcribe", PATH=path)
    send("j")
    jobs.wait("j", timeout=60)
    waited = pipeline("status", "--json")

    now = json.loads(waited.stdout)
    assert waited.returncode == 1
    assert now["unattended"] == ["decode", "enrich"]
    (worker,) = now["stages"]["transcribe"]["workers"]
    assert worker["pid"] != master.pid
    assert worker["device"] == "NVIDIA A10"
    assert [gpu["utilisation"] for gpu in worker["gpus"]] == [87]
    assert now["stages"]["transcribe"]["done_last_minute"] == 1
    assert "No live worker consumes the enrich stage" in pipeline("status").stdout
    sent = pipeline("submit", "voice.ogg")
    assert sent.returncode == 0
    assert jobs.get(sent.stdout.strip()).status == "queued"
    assert "No live worker consumes the decode stage: jobs wait" in sent.stderr
    assert "the transcribe stage" not in sent.stderr
    master.terminate()
    master.wait(20)
    assert "transcribe" in json.loads(pipeline("status", "--json").stdout)["unattended"]
