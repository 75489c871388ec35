"""Real worker processes are killed, stopped and held up: no event is lost and no receiver starves."""

import os
import signal
import time

import live
import pytest
from live import jobs, queues
from processes import becomes, children
from receiver import receiving

pytestmark = pytest.mark.processes


def test_a_worker_killed_while_it_delivers_loses_nothing(workers, done, receiver, undelivered):
    first = workers.start(WEBHOOK_TIMEOUT="2")

    def kill_the_first(_got):
        receiver.behave = lambda _got: None
        for process in (first.pid, *children(first.pid)):
            os.kill(process, signal.SIGKILL)

    receiver.behave = kill_the_first
    done("one")
    done("two")
    receiver.until(lambda server: server.got)
    first.wait(30)
    receiver.behave = lambda _got: 200
    assert undelivered() == 2
    workers.start(WEBHOOK_TIMEOUT="2")

    receiver.until(lambda server: {(got.job, got.type) for got in server.taken} >= EVERYTHING)
    for name in ("one", "two"):
        types = dict.fromkeys(got.type for got in receiver.got if got.job == name)
        assert list(types) == ["job.transcribed", "job.done"]
    assert {got.id for got in receiver.got} == {f"msg_{name}_{number}" for name in ("one", "two") for number in (1, 2)}


EVERYTHING = {(name, kind) for name in ("one", "two") for kind in ("job.transcribed", "job.done")}


def test_a_stopping_worker_finishes_its_delivery_and_returns_the_rest(workers, done, receiver, undelivered):
    first = workers.start()

    def stop_the_first(_got):
        receiver.behave = lambda _got: 200
        first.terminate()
        while "Shutting down" not in workers.log():
            receiver.wait(0.05)
        return 200

    receiver.behave = stop_the_first
    done("one")
    receiver.until(lambda server: server.got)
    assert first.wait(60) == 0
    assert jobs.get("one").webhook.pending == ("done",)
    assert undelivered() == 1
    workers.start()
    receiver.until(lambda server: len(server.taken) == 2)
    assert [got.type for got in receiver.got] == ["job.transcribed", "job.done"]
    assert len({got.id for got in receiver.got}) == 2


def test_slow_and_failing_receivers_starve_no_other(workers, done, receiver, undelivered):
    with receiving() as slow, receiving() as failing:
        held = []

        def hold(got):
            held.append(got)
            slow.wait(120)  # until the test ends it
            return 200

        slow.behave = hold
        failing.behave = lambda _got: 503
        workers.start(WEBHOOK_TIMEOUT="60", WEBHOOK_BACKOFF="600")
        for number in range(20):
            done(f"slow-{number}", slow.url())
            done(f"failing-{number}", failing.url())
        for number in range(20):
            done(f"good-{number}")
        receiver.until(lambda server: len(server.taken) == 40)
        assert 1 <= len(held) <= 4
        assert not slow.got
        assert len(failing.got) <= 4
        assert becomes(lambda: undelivered() == 40)
        assert queues.depths()["webhook"].in_progress <= 4
        assert [worker.stages for worker in live.workers.alive()] == [["webhook"]]
        for number in range(20):
            types = [got.type for got in receiver.taken if got.job == f"good-{number}"]
            assert types == ["job.transcribed", "job.done"]


def test_a_failed_delivery_is_retried_after_its_backoff(workers, job, receiver):
    receiver.behave = lambda _got: 200 if len(receiver.got) >= 3 else 500
    workers.start(WEBHOOK_BACKOFF="0.2 0.4")
    began = time.monotonic()
    jobs.cancel(job("one"))
    receiver.until(lambda server: server.taken)
    assert [got.answered for got in receiver.got] == [500, 500, 500, 200]
    assert time.monotonic() - began > 0.2 + 0.4 + 0.4
