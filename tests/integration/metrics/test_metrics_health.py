"""When a worker reports that it is alive and ready: real threads on a real Redis."""

import threading

import dramatiq
import live
import pytest
from dramatiq import Message
from processes import becomes

from actors import health, process
from actors.broker import Broker
from actors.shutdown import Shutdown


@pytest.fixture
def draining():
    """The event that this process sets when it begins to stop."""
    process.draining.clear()
    yield process.draining
    process.draining.clear()


@pytest.fixture
def worker(redis_url, draining):
    """A worker with one thread, whose actor does nothing."""
    broker = Broker(live.current())
    broker.add_middleware(Shutdown(1.0, broker.stopping))
    dramatiq.actor(lambda: None, queue_name="decode", actor_name="decode", broker=broker)
    running = dramatiq.Worker(broker, worker_threads=1)
    running.start()
    yield running
    running.stop()
    broker.close()


@pytest.fixture
def checked(worker):
    found = health.Health(worker.broker, "decode")
    assert found.ready()["running"] == "the worker is starting"
    found.worker = worker
    return found


def test_a_worker_that_takes_messages_is_ready_and_one_that_stops_is_not(checked, draining):
    assert becomes(lambda: checked.ready() == {"running": None, "redis": None, "consuming": None, "fit": None})

    draining.set()

    assert checked.ready()["running"] == "the worker is stopping"
    assert checked.alive() == {"threads": None}, "a supervisor must not kill it"


def test_a_paused_worker_is_alive_but_not_ready_and_says_why(checked, worker):
    worker.broker.paused = lambda: "ffmpeg is not installed"

    assert checked.ready()["fit"] == "ffmpeg is not installed"
    assert checked.alive() == {"threads": None}


def test_a_hanging_consumer_is_reported_until_it_checks_its_queue_again(checked, worker):
    here, go = threading.Event(), threading.Event()

    def hang(_queue):
        here.set()
        return go.wait(60)

    worker.broker.may_take = hang
    worker.broker.enqueue(Message("decode", "decode", (), {}, {}))
    assert here.wait(30)
    worker.broker.rounds["decode"] -= health.ROUND  # as if so much time had passed

    assert "the queue decode has not been checked for" in checked.ready()["consuming"]
    assert checked.alive() == {"threads": None}
    go.set()
    assert becomes(lambda: checked.ready()["consuming"] is None, 30)


def test_a_worker_that_has_lost_a_thread_is_neither_alive_nor_ready(checked, worker):
    assert checked.alive() == {"threads": None}

    (thread,) = worker.workers
    thread.stop()
    thread.join(30)

    assert checked.alive() == {"threads": "1 of 3 threads have died"}
    assert checked.ready()["running"] == "1 of 3 threads have died"
