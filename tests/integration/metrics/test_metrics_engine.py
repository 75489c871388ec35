"""What the engine tells of its batches and of what goes wrong with its model, and whether its worker is ready."""

import os
import signal
import subprocess
import time

import pytest
from hearing import SENTENCE
from processes import becomes

from actors.broker import Broker
from actors.health import Health
from pipeline.metrics import METRICS
from pipeline.transcribe import Engine, look, recognizer
from pipeline.transcribe.audio import load

IDLE, TIMEOUT = 0.3, 20.0  # seconds


@pytest.fixture
def noted(monkeypatch):
    """What was noted: a name, a value and labels each."""
    found = []
    monkeypatch.setattr(measures, "listeners", [lambda *what: found.append(what)])
    return found


@pytest.fixture(scope="module")
def engine():
    running = Engine("bundled:tiny.en", device="cpu", replicas=1, timeout=TIMEOUT, idle=IDLE)
    yield running
    running.stop(5)


@pytest.fixture
def speak(tmp_path):
    def say(text):
        voice = tmp_path / "voice.wav"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", voice, text], check=True)
        return load(voice)

    return say


def test_batches_are_measured_and_a_killed_model_process_is_counted_and_proves_itself_anew(engine, noted, speak):
    audio = speak(SENTENCE)
    engine.transcribe([audio])

    values = {name: value for name, value, _ in noted}
    assert values["batch_windows"] == 1
    assert values["audio_seconds_total"] == pytest.approx(len(audio) / 16_000)
    assert (
        0 < values["real_time_factor"] == pytest.approx(values["batch_seconds"] / values["audio_seconds_total"], rel=1)
    )
    assert ("windows_total", 1, {"look": "quick"}) in noted

    [first] = [slot.pid for slot in engine.slots]
    os.kill(first, signal.SIGKILL)

    assert becomes(lambda: ("slot_restarts_total", 1, {"reason": "died_idle"}) in noted, 60)
    assert becomes(lambda: engine.slots[0].pid != first, 60)
    assert becomes(lambda: all(age is not None and age < engine.patience for age in engine.proofs.values()), 60)


def test_windows_that_the_guard_has_looked_at_again_are_told_apart_by_the_look_that_was_believed(engine, noted, speak):
    engine.transcribe([speak("Please call me back. Please call me back. Please call me back.")])

    [(_, value, labels)] = [what for what in noted if what[0] == "windows_total"]
    assert value == 1
    assert labels["look"] != "quick"


def test_every_look_is_counted_from_the_start():
    looks = {each.name for short in look.SHORT_LOOKS.values() for each in short} | {"beam", "halves"}

    assert recognizer.TEMPERATURES
    assert set(METRICS["windows_total"].known) == looks | {"temperature"}


def test_a_worker_is_ready_while_every_model_process_is_there_and_has_proved_itself_lately(engine, redis_url):
    broker = Broker(middleware=[])
    health = Health(broker, "transcribe")
    assert health.ready()["canary"] == "the model is being loaded"
    broker.engine = engine
    assert becomes(lambda: health.ready()["canary"] is None, 60)

    def long_unproved():
        engine._slots[0].proved_at = time.monotonic() - engine.patience  # as if the time had passed
        return health.ready()["canary"] or ""

    assert becomes(lambda: "has passed no canary and no batch for" in long_unproved(), 60)
    assert becomes(lambda: health.ready()["canary"] is None, 60), "its canary has passed"

    os.kill(engine.slots[0].pid, signal.SIGKILL)
    assert becomes(lambda: "is being started" in (health.ready()["canary"] or ""), 60)
    assert becomes(lambda: health.ready()["canary"] is None, 60)

    engine.stop(5)  # the last test's to do
    assert health.ready()["canary"] == "no slot is left"
