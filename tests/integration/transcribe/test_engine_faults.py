"""A bad message costs its neighbours nothing, and a lost process is replaced; on the fake backend."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import faulty as faults
import numpy as np
import pytest
from faulty import Faulty
from hearing import SENTENCE
from processes import becomes

from pipeline.transcribe import DecodingOptions, Engine, EngineError
from pipeline.transcribe.backends.fake import Fake, say
from voicemill.errors import JobError

pytestmark = pytest.mark.processes


def with_one_slot(backend, **options):
    limits = {"timeout": 2, "timeout_per_second": 0.2} | options
    return Engine("fake", device="cpu", replicas=1, backend=backend, **limits)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    backend = Faulty(folder=tmp_path_factory.mktemp("faults"))
    engine = with_one_slot(backend)
    yield engine, backend.folder
    engine.stop(2)


@pytest.fixture
def one_slot(lasting):
    """The engine of all tests that leave it as it was but for its process."""
    engine, _ = lasting
    assert engine.alive
    return engine


@pytest.fixture
def own_slot(faulty):
    """An engine of the test's own that runs its canary as soon as it is idle."""
    engine = with_one_slot(faulty, idle=0.3)
    yield engine
    engine.stop(2)


def count(noted, name, reason):
    return sum(what == name and labels.get("reason") == reason for what, _, labels in noted)


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("<abort>", "transcribe_crashed", "died"),
        ("<fault>", "transcribe_crashed", "died"),
        ("<hang>", "transcribe_timeout", "hung"),
    ],
)
def test_a_poisonous_message_fails_after_two_tries_and_its_neighbours_are_done(one_slot, noted, command, code, reason):
    first = one_slot.slots[0].pid
    futures = [one_slot.submit(say(text), DecodingOptions()) for text in (SENTENCE, command, SENTENCE)]
    with pytest.raises(JobError) as caught:
        futures[1].result(60)
    assert caught.value.code == code
    assert [futures[index].result(60).text for index in (0, 2)] == [SENTENCE] * 2
    assert one_slot.slots[0].pid != first
    assert one_slot.alive
    assert count(noted, "batches_failed_total", reason) >= 2
    if reason == "died":  # a busy machine may kill a neighbour for its slowness
        assert count(noted, "batches_failed_total", reason) == 2
    assert count(noted, "slot_restarts_total", reason) >= 2


def test_a_lack_of_memory_makes_batches_smaller_for_good_and_costs_no_message(noted):
    with with_one_slot(Fake(capacity=2)) as engine:
        futures = [engine.submit(say(SENTENCE), DecodingOptions()) for _ in range(16)]
        assert [future.result(60).text for future in futures] == [SENTENCE] * 16
        assert engine._batch <= 2
    assert count(noted, "batches_failed_total", "out_of_memory") >= 1


def test_a_window_too_large_for_the_device_by_itself_fails_and_shrinks_no_batch(one_slot):
    whole = one_slot._batch
    with pytest.raises(JobError) as caught:
        one_slot.transcribe([say("<memory>")])
    assert caught.value.code == "out_of_memory"
    assert one_slot._batch == whole


def test_a_slot_that_never_started_is_out_and_the_others_work(faulty):
    (faulty.folder / faults.UNFIT_SLOT).touch()
    with Engine("fake", device="cpu", replicas=2, backend=faulty) as engine:
        assert engine.retired == 1
        assert None not in engine.proofs.values()  # else it would be waited for
        assert engine.transcribe([say(SENTENCE)])[0].text == SENTENCE


def test_an_engine_none_of_whose_slots_starts_says_why(faulty):
    (faulty.folder / faults.UNFIT).touch()
    with pytest.raises(EngineError, match=r"No slot could be started\. .*the fake is unfit"):
        Engine("fake", device="cpu", replicas=1, backend=faulty)


def test_a_slot_whose_process_dies_while_it_loads_is_started_once_more(faulty):
    (faulty.folder / faults.DIE).touch()
    with with_one_slot(faulty) as engine:
        assert not (faulty.folder / faults.DIE).exists()
        assert engine.transcribe([say(SENTENCE)])[0].text == SENTENCE


def test_a_batch_whose_slot_had_died_idle_and_dies_again_while_it_loads_is_not_lost(lasting):
    engine, folder = lasting
    (folder / faults.DIE).touch()
    os.kill(engine.slots[0].pid, signal.SIGKILL)
    assert engine.submit(say(SENTENCE), DecodingOptions()).result(60).text == SENTENCE
    assert not (folder / faults.DIE).exists()


def test_a_stopped_engine_ends_what_hangs_and_starts_nothing(faulty, noted):
    for name in (faults.HOLD, faults.HOLD_CUTTING):
        (faulty.folder / name).touch()
    engine = Engine("fake", device="cpu", replicas=1, backend=faulty)
    long = engine.submit(np.zeros(16_000 * 1200, np.float32), DecodingOptions())
    cutting = engine.submit(np.zeros(16_000 * 1200, np.float32), DecodingOptions())  # never begun: behind the first
    hanging = engine.submit(say(SENTENCE), DecodingOptions())
    assert becomes((faulty.folder / faults.BEGUN).exists)
    pid = engine.slots[0].pid
    engine.stop(0.2)
    engine._threads[0].join(60)
    assert not engine._threads[0].is_alive()
    assert not Path(f"/proc/{pid}").exists()
    assert not any(name == "slot_restarts_total" for name, _, _ in noted)
    assert [each.exception(60).code for each in (cutting, hanging)] == ["worker_stopped"] * 2
    (faulty.folder / faults.HOLD_CUTTING).unlink()
    assert long.exception(60) is None or long.exception().code == "worker_stopped"


def test_a_process_that_dies_idle_is_noticed_and_replaced_before_the_next_message(own_slot):
    first = own_slot.slots[0].pid
    os.kill(first, signal.SIGKILL)
    assert becomes(lambda: own_slot.slots[0].pid != first)  # the idle canary has no event to wait for
    assert own_slot.transcribe([say(SENTENCE)])[0].text == SENTENCE


def test_a_slot_that_fails_its_canary_again_and_again_takes_no_more_work(own_slot, faulty, noted):
    (faulty.folder / faults.UNFIT).touch()
    os.kill(own_slot.slots[0].pid, signal.SIGKILL)
    failed = own_slot.submit(say(SENTENCE), DecodingOptions()).exception(60)

    assert isinstance(failed, JobError)
    assert failed.code == "gpu_unfit"
    own_slot._threads[0].join(60)
    assert not own_slot.alive
    assert own_slot.submit(say(SENTENCE), DecodingOptions()).exception(1).code == "gpu_unfit"
    assert count(noted, "slot_restarts_total", "unfit") >= 1


def test_a_process_whose_memory_has_grown_is_replaced_between_two_batches(faulty, noted):
    (faulty.folder / faults.LEAKING).touch()
    with Engine("fake", device="cpu", replicas=1, growth=faults.LEAK // 2, backend=faulty) as engine:
        first = engine.slots[0].pid
        texts = [engine.transcribe([say(SENTENCE)])[0].text for _ in range(2)]  # the second waits for the new process
        assert texts == [SENTENCE] * 2
        assert engine.slots[0].pid != first
        assert count(noted, "slot_restarts_total", "grown") >= 1


def test_an_engine_whose_last_slot_cannot_come_back_fails_what_waits(own_slot, faulty):
    (faulty.folder / faults.UNFIT).touch()
    future = own_slot.submit(say("<abort>"), DecodingOptions())
    with pytest.raises(JobError) as caught:
        future.result(60)
    assert caught.value.code == "gpu_unfit"
    assert not own_slot.alive
    with pytest.raises(JobError, match="gpu_unfit"):
        own_slot.submit(say(SENTENCE), DecodingOptions()).result(5)


def test_stopping_lets_running_batches_finish_and_hands_the_rest_back(faulty):
    (faulty.folder / faults.HOLD).touch()
    engine = Engine("fake", device="cpu", replicas=1, backend=faulty)
    pid = engine.slots[0].pid
    running = engine.submit(say(SENTENCE), DecodingOptions())
    assert becomes((faulty.folder / faults.BEGUN).exists)
    waiting = engine.submit(say(SENTENCE), DecodingOptions())

    stopping = threading.Thread(target=engine.stop, args=(60,))
    stopping.start()
    assert becomes(lambda: engine._scheduler._closed)
    (faulty.folder / faults.HOLD).unlink()

    assert running.result(60).text == SENTENCE
    assert waiting.exception(60).code == "worker_stopped"
    stopping.join()
    assert not Path(f"/proc/{pid}").exists()


def test_an_engine_for_a_gpu_that_is_not_there_does_not_start(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match="No GPU is visible"):
        Engine("fake", device="cuda")
