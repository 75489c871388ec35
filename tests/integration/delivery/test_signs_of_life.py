"""Who counts as dead, and what becomes of the messages of one that does not."""

import json
import os
import threading
import time

import dramatiq
import pytest
from actors.beat import Beat
from dramatiq.brokers import redis as stock
from live import store, workers

from actors import gpus
from actors.broker import Broker
from actors.maintenance import Maintenance
from pipeline import sweeper
from voicemill.store import keys

QUEUES = ["decode", "decode.DQ"]


class Worker:
    """A worker's broker and pulse, without its threads."""

    def __init__(self):
        self.broker, self.pulse = Broker(middleware=[]), Beat(3)
        self.pulse._said["stages"] = ["decode"]

    def beat(self):
        self.pulse._beat(self.broker, QUEUES)

    def take(self):
        """Take a message, and keep it."""
        self.broker.do_enqueue("decode", "r-1", json.dumps({"message_id": "j", "redis_message_id": "r-1"}))
        self.broker.do_fetch("decode", 1)

    @property
    def has_it(self):
        return store.redis.smembers(f"{keys.NAMESPACE}:__acks__.{self.broker.broker_id}.decode")


def pass_by(seconds, *workers):
    """Let so much time pass for workers that cannot be heard meanwhile."""
    for worker in workers:
        for key in (f"{keys.NAMESPACE}:beats", f"{keys.NAMESPACE}:__heartbeats__"):
            store.redis.zincrby(key, -seconds * 1000, worker.broker.broker_id)


@pytest.fixture
def two(redis_url):
    first, second = Worker(), Worker()
    first.take()
    first.beat()
    second.beat()
    return first, second


def test_a_worker_that_dies_with_its_first_message_before_it_ever_beat_loses_it_as_soon(redis_url):
    first, second = Worker(), Worker()
    first.pulse.before_worker_boot(first.broker, None)
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


def test_a_worker_whose_clock_is_slow_does_not(two, monkeypatch):
    first, second = two
    monkeypatch.setattr(stock, "current_millis", lambda: server_time() - 30_000)
    first.broker.do_fetch("decode", 1)

    second.beat()

    assert first.has_it
    assert {worker.pid for worker in workers.alive()} == {first.pulse._said["pid"]}
    assert len(workers.alive()) == 2


def server_time():
    seconds, micros = store.redis.time()
    return seconds * 1000 + micros // 1000


def test_nobody_is_blamed_for_a_redis_that_was_away_and_who_died_meanwhile_is_found_afterwards(two):
    first, second = two
    pass_by(60, first, second)

    second.beat()
    assert first.has_it
    pass_by(10, first)
    second.beat()

    assert not first.has_it


def test_a_single_survivor_that_beats_slowly_finds_the_dead_all_the_same(two):
    first, second = two

    for _ in range(5):
        pass_by(7, first, second)
        second.beat()

    assert not first.has_it


def test_one_that_died_before_its_first_beat_is_found_too(two):
    _, second = two
    third = Worker()
    third.broker.do_enqueue("decode", "r-2", "{}")
    third.broker.do_fetch("decode", 1)
    pass_by(61, third)
    store.redis.zrem(f"{keys.NAMESPACE}:beats", third.broker.broker_id)

    second.beat()

    assert not third.has_it


def heartbeats(worker, count):
    """Run the worker's heartbeat thread until it has sent so many heartbeats."""
    sent = threading.Semaphore(0)
    beat = worker.pulse._beat

    def counted(*arguments):
        beat(*arguments)
        sent.release()

    worker.pulse._beat = counted
    idle = dramatiq.Worker(worker.broker)
    thread = threading.Thread(target=worker.pulse._run, args=(worker.broker, QUEUES, idle), daemon=True)
    thread.start()
    try:
        return all(sent.acquire(timeout=30) for _ in range(count))
    finally:
        worker.pulse._ended.set()
        thread.join(30)


@pytest.fixture
def fast_heartbeat(monkeypatch):
    monkeypatch.setattr("actors.beat.BEAT", 0.01)


def test_a_sweep_that_never_ends_does_not_delay_the_heartbeat(redis_url, monkeypatch, fast_heartbeat):
    worker, maintenance = Worker(), Maintenance()
    begun, over = threading.Event(), threading.Event()

    def hang():
        begun.set()
        over.wait(60)

    monkeypatch.setattr(sweeper, "sweep_when_due", hang)
    maintenance.after_worker_boot(worker.broker, None)
    try:
        assert begun.wait(30)
        assert heartbeats(worker, 3)
    finally:
        maintenance.after_worker_shutdown(worker.broker, None)
        over.set()


def test_a_handoff_store_that_hangs_does_not_delay_the_heartbeat(two, monkeypatch, fast_heartbeat):
    first, second = two
    second.pulse.max_kills = 1
    begun, over = threading.Event(), threading.Event()

    def hang(_job_id):
        begun.set()
        over.wait(60)

    monkeypatch.setattr(handoff, "delete", hang)
    pass_by(13, first)
    try:
        assert heartbeats(second, 3)
        assert begun.wait(30)
    finally:
        over.set()


def test_an_nvidia_smi_that_hangs_does_not_delay_the_heartbeat(redis_url, monkeypatch, fast_heartbeat, tmp_path):
    hanging = tmp_path / "nvidia-smi"
    hanging.write_text("#!/bin/sh\ntouch asked\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpus, "_next", 0.0)
    worker = Worker()
    worker.broker.gpus = gpus.read

    began = time.monotonic()
    assert heartbeats(worker, 3)

    assert time.monotonic() - began < gpus.TIMEOUT
    with gpus._asking:  # the reading is over, so that no thread outlives the test
        assert (tmp_path / "asked").exists()


def test_maintenance_continues_after_a_sweep_that_failed(monkeypatch):
    monkeypatch.setattr("actors.maintenance.INTERVAL", 0.01)
    swept = threading.Semaphore(0)

    def fail():
        swept.release()
        raise ValueError("no JSON")

    monkeypatch.setattr(sweeper, "sweep_when_due", fail)
    maintenance = Maintenance()
    maintenance.after_worker_boot(None, None)
    try:
        assert all(swept.acquire(timeout=30) for _ in range(3))
    finally:
        maintenance.after_worker_shutdown(None, None)
