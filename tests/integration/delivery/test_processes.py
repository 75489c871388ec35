"""What a worker's master can be told."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from live import jobs, queues
from processes import end

from config.environment import STATE
from voicemill.options import Options
from voicemill.store.queue import letter

ACTOR = """
from config import settings

@dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=JobError)
def transcribe(job_id, schema=1):
    jobs.begin(job_id, "transcribe", "host:1")
    jobs.finish(job_id, "transcribe", {"transcript": {"text": settings.get().whisper_model}}, following=None)
"""


def test_sighup_replaces_the_worker_by_one_that_has_read_env_anew_and_the_master_goes_on(workers, tmp_path):

    def work(name):
        jobs.create(name, "voice.ogg", Options())
        queues.push(letter("transcribe", name))
        return jobs.wait(name, timeout=60).transcript.text

    (tmp_path / ".env").write_text("WHISPER_MODEL=tiny\n")
    master = workers.start(ACTOR, "transcribe")
    workers.until("ready for action")
    before = {worker.pid for worker in workers.alive()}
    assert work("earlier") == "tiny"

    (tmp_path / ".env").write_text("WHISPER_MODEL=base\n")
    master.send_signal(signal.SIGHUP)
    workers.until("ready for action", 2)

    assert end(before)
    assert master.poll() is None
    assert work("later") == "base"


def test_a_worker_that_would_consume_nothing_ends_instead_of_idling(redis_url):
    command = [Path(sys.executable).with_name("dramatiq"), "actors.decode", "-Q", "enrich", "-p", "1", "--skip-logging"]
    environment = os.environ | {"REDIS_URL": redis_url}

    ran = subprocess.run(command, cwd=STATE.parent, env=environment, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 2
    assert "-Q names no queue of this worker's" in ran.stdout + ran.stderr
