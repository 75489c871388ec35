"""What one bad message does to the others: nothing."""

from __future__ import annotations

import collections
import dataclasses
import os
import signal
import threading
from pathlib import Path

import numpy as np
import poison
import pytest
from hearing import SENTENCE, word_error_rate
from processes import becomes

from pipeline.metrics import hooks
from pipeline.transcribe import Engine, EngineError, Options, child, devices, slot
from voicemill.errors import JobError


@pytest.fixture
def poisonous(speak):
    audio = speak(SENTENCE)
    return audio * (1.5 * poison.LOUD / np.abs(audio).max())


def with_one_slot(**options):
    return Engine("bundled:tiny.en", device="cpu", replicas=1, timeout=3, **options)


@pytest.fixture(scope="module")
def lasting():
    engine = with_one_slot()
    yield engine
    engine.stop(2)


@pytest.fixture
def one_slot(lasting):
    """The engine of all tests that leave it as it was but for its process."""
    assert lasting.alive
    return lasting


@pytest.fixture
def own_slot():
    """An engine of the test's own, that proves itself as soon as it is idle."""
    engine = with_one_slot(idle=0.3)
    yield engine
    engine.stop(2)


@pytest.fixture
def counted(monkeypatch):
    """How often each reason was noted, by the metric's name."""
    found = collections.Counter()

    def hear(name, _value, labels):
        found[name, labels.get("reason")] += 1

    monkeypatch.setattr(measures, "listeners", [hear])
    return found


@pytest.mark.parametrize(
    ("harm", "code", "reason"),
    [
        (poison.abort, "transcribe_crashed", "died"),
        (poison.fault, "transcribe_crashed", "died"),
        (poison.hang, "transcribe_timeout", "hung"),
    ],
)
def test_a_poisonous_message_fails_after_two_tries_and_its_neighbours_are_done(
    one_slot, speak, poisonous, counted, monkeypatch, harm, code, reason
):
    monkeypatch.setattr(child, "run", harm)
    if harm is poison.hang:
        monkeypatch.setattr(slot, "TIMEOUT_PER_SECOND", 0.2)
    first = one_slot.slots[0].pid
    futures = [one_slot.submit(audio, Options()) for audio in (speak(SENTENCE), poisonous, speak(SENTENCE))]
    with pytest.raises(JobError) as caught:
        futures[1].result(60)
    assert caught.value.code == code
    assert all(word_error_rate(futures[index].result(60).text, SENTENCE) < 0.4 for index in (0, 2))
    assert one_slot.slots[0].pid != first
    assert one_slot.alive
    assert counted["batches_failed_total", reason] >= 2
    if reason == "died":  # a busy machine may kill a neighbour for its slowness
        assert counted["batches_failed_total", reason] == 2
    assert counted["slot_restarts_total", reason] >= 2


def test_a_lack_of_memory_makes_batches_smaller_for_good_and_costs_no_message(own_slot, speak, counted, monkeypatch):
    monkeypatch.setattr(child, "run", poison.small_device)
    futures = [own_slot.submit(speak(SENTENCE), Options()) for _ in range(16)]
    assert all(word_error_rate(future.result(60).text, SENTENCE) < 0.4 for future in futures)
    assert own_slot._batch <= poison.ROOM
    assert counted["batches_failed_total", "out_of_memory"] >= 1


def test_a_window_too_large_for_the_device_by_itself_fails_and_shrinks_no_batch(one_slot, poisonous, monkeypatch):
    monkeypatch.setattr(child, "run", poison.crowded_device)
    whole = one_slot._batch
    with pytest.raises(JobError) as caught:
        one_slot.transcribe([poisonous])
    assert caught.value.code == "out_of_memory"
    assert one_slot._batch == whole


def test_a_slot_that_never_started_is_out_and_the_others_work(speak, monkeypatch, tmp_path):
    plan = devices.plan

    def one_bad(**options):
        [good] = plan(**options)
        return [good, dataclasses.replace(good, path=tmp_path)]

    monkeypatch.setattr(devices, "plan", one_bad)
    with Engine("bundled:tiny.en", device="cpu", replicas=1) as engine:
        assert engine.retired == 1
        assert None not in engine.proofs.values()  # else it would be waited for
        assert word_error_rate(engine.transcribe([speak(SENTENCE)])[0].text, SENTENCE) < 0.4


@pytest.fixture
def dies_once(monkeypatch, tmp_path):
    """Have the next process abort while it loads its model, and only that one."""
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    monkeypatch.setattr(child, "start", poison.dies_once)
    return tmp_path / "died"


def test_a_slot_whose_process_dies_while_it_loads_is_started_once_more(speak, dies_once):
    with with_one_slot() as engine:
        assert dies_once.exists()
        assert word_error_rate(engine.transcribe([speak(SENTENCE)])[0].text, SENTENCE) < 0.4


def test_a_batch_whose_slot_had_died_idle_and_dies_again_while_it_loads_is_not_lost(one_slot, speak, dies_once):
    os.kill(one_slot.slots[0].pid, signal.SIGKILL)
    assert word_error_rate(one_slot.submit(speak(SENTENCE), Options()).result(60).text, SENTENCE) < 0.4
    assert dies_once.exists()


@pytest.fixture
def held(monkeypatch, tmp_path):
    """Have every batch wait: the file that tells that one has begun, and the one that lets them go on."""
    begun, go_on = tmp_path / "begun", tmp_path / "go_on"
    monkeypatch.setenv("BEGUN", str(begun))
    monkeypatch.setenv("GO_ON", str(go_on))
    monkeypatch.setattr(child, "run", poison.wait)
    return begun, go_on


def test_a_stopped_engine_ends_what_hangs_and_starts_nothing(speak, held, counted):
    begun, _ = held
    engine = Engine("bundled:tiny.en", device="cpu", replicas=1)
    long = engine.submit(np.zeros(16_000 * 1200, np.float32), Options())
    cutting = engine.submit(np.zeros(16_000 * 1200, np.float32), Options())  # behind the first, and never begun
    hanging = engine.submit(speak(SENTENCE), Options())
    assert becomes(begun.exists)
    pid = engine.slots[0].pid
    engine.stop(0.2)
    engine._threads[0].join(60)
    assert not engine._threads[0].is_alive()
    assert not Path(f"/proc/{pid}").exists()
    assert not any(name == "slot_restarts_total" for name, _ in counted)
    assert [each.exception(60).code for each in (cutting, hanging)] == ["worker_stopped"] * 2
    assert long.exception(60) is None or long.exception().code == "worker_stopped"


def test_a_process_that_dies_idle_is_noticed_and_replaced_before_the_next_message(own_slot, speak):
    first = own_slot.slots[0].pid
    os.kill(first, signal.SIGKILL)
    assert becomes(lambda: own_slot.slots[0].pid != first)  # the idle canary has no event to wait for
    [transcript] = own_slot.transcribe([speak(SENTENCE)])
    assert word_error_rate(transcript.text, SENTENCE) < 0.4


def test_a_slot_that_fails_its_canary_again_and_again_takes_no_more_work(own_slot, speak, counted, monkeypatch):
    monkeypatch.setattr(child, "start", poison.unfit)
    os.kill(own_slot.slots[0].pid, signal.SIGKILL)
    failed = own_slot.submit(speak(SENTENCE), Options()).exception(60)

    assert isinstance(failed, JobError)
    assert failed.code == "gpu_unfit"
    own_slot._threads[0].join(60)
    assert not own_slot.alive
    assert own_slot.submit(speak(SENTENCE), Options()).exception(1).code == "gpu_unfit"
    assert counted["slot_restarts_total", "unfit"] >= 1


def test_a_process_whose_memory_has_grown_is_replaced_between_two_batches(speak, counted, monkeypatch):
    monkeypatch.setattr(child, "run", poison.leak)
    with Engine("bundled:tiny.en", device="cpu", replicas=1, growth=poison.LEAK // 2) as engine:
        first = engine.slots[0].pid
        texts = [engine.transcribe([speak(SENTENCE)])[0].text for _ in range(2)]  # the second waits for the new process
        assert all(word_error_rate(text, SENTENCE) < 0.4 for text in texts)
        assert engine.slots[0].pid != first
        assert counted["slot_restarts_total", "grown"] >= 1


def test_an_engine_whose_last_slot_cannot_come_back_fails_what_waits(own_slot, speak, poisonous, monkeypatch, tmp_path):
    only = own_slot._slots[0]
    monkeypatch.setattr(only, "spec", dataclasses.replace(only.spec, path=tmp_path))  # its model's folder is empty now
    monkeypatch.setattr(child, "run", poison.abort)
    future = own_slot.submit(poisonous, Options())
    with pytest.raises(JobError) as caught:
        future.result(60)
    assert caught.value.code == "gpu_unfit"
    assert not own_slot.alive
    with pytest.raises(JobError, match="gpu_unfit"):
        own_slot.submit(speak(SENTENCE), Options()).result(5)


def test_stopping_lets_running_batches_finish_and_hands_the_rest_back(speak, held):
    begun, go_on = held
    engine = with_one_slot()
    pid = engine.slots[0].pid
    running = engine.submit(speak(SENTENCE), Options())
    assert becomes(begun.exists)
    waiting = engine.submit(speak(SENTENCE), Options())

    stopping = threading.Thread(target=engine.stop, args=(60,))
    stopping.start()
    assert becomes(lambda: engine._scheduler._closed)
    go_on.touch()

    assert word_error_rate(running.result(60).text, SENTENCE) < 0.4
    assert waiting.exception(60).code == "worker_stopped"
    stopping.join()
    assert not Path(f"/proc/{pid}").exists()


def test_an_engine_for_a_gpu_that_is_not_there_does_not_start(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match="No GPU is visible"):
        Engine("bundled:tiny.en", device="cuda")
