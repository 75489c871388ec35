"""When a worker says that it lives, and that it does its work: real threads on a real Redis."""

import threading

import dramatiq
import pytest
from dramatiq import Message
from processes import becomes

from actors import health, process
from actors.broker import Broker, Stopping


@pytest.fixture
def draining(monkeypatch):
    """This process's own note that it stops, as it was before the test."""
    flag = threading.Event()
    monkeypatch.setattr(process, "draining", flag)
    return flag


@pytest.fixture
def worker(redis_url, draining):
    """A worker with one thread, whose actor does nothing; `hold` keeps its consumer from taking anything."""
    broker = Broker(middleware=[Stopping(1.0)])
    dramatiq.actor(lambda: None, queue_name="decode", actor_name="decode", broker=broker)
    running = dramatiq.Worker(broker, worker_threads=1)
    running.start()
    yield running
    running.stop()
    broker.close()


@pytest.fixture
def asked(worker):
    found = health.Health(worker.broker, "decode")
    assert found.ready()["running"] == "the worker is starting"
    found.worker = worker
    return found


def test_a_worker_that_takes_messages_is_ready_and_one_that_stops_is_not(asked, draining):
    assert becomes(lambda: asked.ready() == {"running": None, "redis": None, "consuming": None, "fit": None})

    draining.set()

    assert asked.ready()["running"] == "the worker is stopping"
    assert asked.alive() == {"threads": None}, "nobody is to kill it for that"


def test_a_worker_that_is_paused_is_alive_but_not_ready_and_says_why(asked, worker):
    worker.broker.paused = lambda: "ffmpeg is not installed"

    assert asked.ready()["fit"] == "ffmpeg is not installed"
    assert asked.alive() == {"threads": None}


def test_a_consumer_that_hangs_is_not_consuming_until_it_looks_again(asked, worker):
    here, go = threading.Event(), threading.Event()

    def hang(_queue):
        here.set()
        return go.wait(60)

    worker.broker.may_take = hang
    worker.broker.enqueue(Message("decode", "decode", (), {}, {}))
    assert here.wait(30)
    worker.broker.rounds["decode"] -= health.ROUND  # as if the time had passed

    assert "the queue decode has not been looked into for" in asked.ready()["consuming"]
    assert asked.alive() == {"threads": None}
    go.set()
    assert becomes(lambda: asked.ready()["consuming"] is None, 30)


def test_a_worker_that_has_lost_a_thread_is_neither_alive_nor_ready(asked, worker):
    assert asked.alive() == {"threads": None}

    (thread,) = worker.workers
    thread.stop()
    thread.join(30)

    assert asked.alive() == {"threads": "1 of 3 threads have died"}
    assert asked.ready()["running"] == "1 of 3 threads have died"
