"""What a worker's master does on signals and arguments."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import live
from live import jobs, queues
from processes import end

from config.environment import STATE
from voicemill.options import Options
from voicemill.store.queue import letter

STAGE = """
WORKER.declare(lambda job, context: Result({"transcript": {"text": context.settings.whisper_model}}))
"""


def test_sighup_replaces_the_worker_by_one_that_has_read_env_again_and_keeps_the_master(workers, tmp_path):
    def work(name):
        jobs.create(name, "voice.ogg", Options(enrich=False))
        queues.push(letter("transcribe", name))
        return jobs.wait(name, timeout=60).transcript.text

    (tmp_path / ".env").write_text("WHISPER_MODEL=tiny\n")
    master = workers.start(STAGE, "transcribe")
    workers.until("ready for action")
    before = {worker.pid for worker in live.workers.alive()}
    assert work("earlier") == "tiny"

    (tmp_path / ".env").write_text("WHISPER_MODEL=base\n")
    master.send_signal(signal.SIGHUP)
    workers.until("ready for action", 2)

    assert end(before)
    assert master.poll() is None
    assert work("later") == "base"


def test_a_worker_that_would_consume_nothing_exits_instead_of_idling(redis_url):
    command = [Path(sys.executable).with_name("dramatiq"), "actors.decode", "-Q", "enrich", "-p", "1", "--skip-logging"]
    environment = os.environ | {"REDIS_URL": redis_url}

    ran = subprocess.run(command, cwd=STATE.parent, env=environment, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 2
    assert "-Q names no queue of this worker's" in ran.stdout + ran.stderr
