"""Which workers count as dead, and what happens to the messages of those that do."""

import json
import os
import threading
import time
from types import SimpleNamespace

import dramatiq
import pytest
from live import current, store, workers

from actors import gpus
from actors.broker import Broker
from actors.gpus import Gpus
from actors.heartbeat import Heartbeat
from actors.maintenance import Maintenance
from voicemill.store import Store, keys

QUEUES = ["decode", "decode.DQ"]
STOCK_HEARTBEATS = f"{keys.NAMESPACE}:__heartbeats__"  # Dramatiq's own, by the workers' clocks


class Worker:
    """A worker's broker and heartbeat, without its threads."""

    def __init__(self, store=None, max_kills=3):
        self.broker, self.heartbeat = Broker(store or current()), Heartbeat(max_kills, interval=0.01)
        self.heartbeat._said["stages"] = ["decode"]

    def beat(self):
        self.heartbeat._beat(self.broker, QUEUES)

    def take(self):
        """Take a message, and keep it."""
        self.broker.do_enqueue("decode", "r-1", json.dumps({"message_id": "j", "redis_message_id": "r-1"}))
        self.broker.do_fetch("decode", 1)

    @property
    def has_it(self):
        return store.redis.smembers(keys.acks(self.broker.broker_id, "decode"))


def pass_by(seconds, *workers):
    """Let so many seconds pass in which these workers send no heartbeat."""
    for worker in workers:
        for key in (keys.HEARTBEATS, STOCK_HEARTBEATS):
            store.redis.zincrby(key, -seconds * 1000, worker.broker.broker_id)


@pytest.fixture
def two(redis_url):
    first, second = Worker(), Worker()
    first.take()
    first.beat()
    second.beat()
    return first, second


def test_a_worker_that_dies_before_its_first_heartbeat_loses_its_message_as_soon(redis_url):
    first, second = Worker(), Worker()
    first.heartbeat.before_worker_boot(first.broker, None)
    first.take()
    second.beat()
    pass_by(13, first)

    second.beat()

    assert not first.has_it


def test_a_worker_that_is_silent_loses_its_messages(two):
    first, second = two
    pass_by(13, first)

    second.beat()

    assert not first.has_it
    assert store.redis.lrange(keys.queue("decode"), 0, -1) == [b"r-1~1"]


def test_a_worker_whose_clock_is_slow_keeps_its_messages(two):
    first, second = two
    store.redis.zadd(STOCK_HEARTBEATS, {first.broker.broker_id: server_time() - 30_000})  # as its next fetch would

    second.beat()

    assert first.has_it
    assert {worker.pid for worker in workers.alive()} == {first.heartbeat._said["pid"]}
    assert len(workers.alive()) == 2


def server_time():
    seconds, micros = store.redis.time()
    return seconds * 1000 + micros // 1000


def test_no_worker_counts_as_dead_for_an_outage_of_redis_and_one_that_died_meanwhile_is_found_later(two):
    first, second = two
    pass_by(60, first, second)

    second.beat()
    assert first.has_it
    pass_by(10, first)
    second.beat()

    assert not first.has_it


def test_a_single_survivor_with_slow_heartbeats_still_finds_the_dead(two):
    first, second = two

    for _ in range(5):
        pass_by(7, first, second)
        second.beat()

    assert not first.has_it


def test_a_worker_that_never_registered_is_found_by_dramatiq_s_own_heartbeat(two):
    _, second = two
    third = Worker()
    third.broker.do_enqueue("decode", "r-2", "{}")
    third.broker.do_fetch("decode", 1)
    pass_by(61, third)
    store.redis.zrem(keys.HEARTBEATS, third.broker.broker_id)

    second.beat()

    assert not third.has_it


def heartbeats(worker, count):
    """Run the worker's heartbeat thread until it has sent so many heartbeats; return whether it did."""
    sent = threading.Semaphore(0)
    beat = worker.heartbeat._beat

    def counted(*arguments):
        beat(*arguments)
        sent.release()

    worker.heartbeat._beat = counted
    idle = dramatiq.Worker(worker.broker)
    thread = threading.Thread(target=worker.heartbeat._run, args=(worker.broker, QUEUES, idle), daemon=True)
    thread.start()
    try:
        return all(sent.acquire(timeout=30) for _ in range(count))
    finally:
        worker.heartbeat._ended.set()
        thread.join(30)


class Hanging:
    """A call that does not return before `over` is set."""

    def __init__(self):
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self, *_arguments):
        self.begun.set()
        self.over.wait(60)


@pytest.fixture
def hang():
    hanging = Hanging()
    yield hanging
    hanging.over.set()


@pytest.mark.usefixtures("redis_url")
def test_a_sweep_that_never_ends_does_not_delay_the_heartbeat(hang):
    worker, maintenance = Worker(), Maintenance(SimpleNamespace(sweep_when_due=hang))
    maintenance.after_worker_boot(worker.broker, None)
    try:
        assert hang.begun.wait(30)
        assert heartbeats(worker, 3)
    finally:
        maintenance.after_worker_shutdown(worker.broker, None)


@pytest.mark.usefixtures("redis_url")
def test_a_handoff_store_that_hangs_does_not_delay_the_heartbeat(hang):
    slow = Store(current().config)
    slow.audio = SimpleNamespace(delete=hang)
    dead, living = Worker(), Worker(slow, max_kills=1)
    dead.take()
    dead.beat()
    living.beat()
    pass_by(13, dead)

    assert heartbeats(living, 3)

    assert hang.begun.wait(30)
    slow.close()


@pytest.mark.usefixtures("redis_url")
def test_an_nvidia_smi_that_hangs_does_not_delay_the_heartbeat(monkeypatch, tmp_path):
    hanging = tmp_path / "nvidia-smi"
    hanging.write_text("#!/bin/sh\ntouch asked\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    worker, reader = Worker(), Gpus()
    worker.broker.gpus = reader.read

    began = time.monotonic()
    assert heartbeats(worker, 3)

    assert time.monotonic() - began < gpus.TIMEOUT
    reader.settled()  # so that no thread outlives the test
    assert (tmp_path / "asked").exists()


def test_maintenance_continues_after_a_sweep_that_failed():
    swept = threading.Semaphore(0)

    def fail():
        swept.release()
        raise ValueError("no JSON")

    maintenance = Maintenance(SimpleNamespace(sweep_when_due=fail), interval=0.01)
    maintenance.after_worker_boot(None, None)
    try:
        assert all(swept.acquire(timeout=30) for _ in range(3))
    finally:
        maintenance.after_worker_shutdown(None, None)
