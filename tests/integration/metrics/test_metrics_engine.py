"""The metrics of batches and of failures of the model, and when a transcribe worker is ready."""

import os
import signal
import subprocess
import time

import live
import pytest
from processes import becomes

from actors.broker import Broker
from actors.health import Health
from pipeline.metrics import METRICS, hooks
from pipeline.transcribe import Engine
from pipeline.transcribe.audio import load
from pipeline.transcribe.backends import fake
from pipeline.transcribe.backends.whisper import passes, recognizer

IDLE, TIMEOUT = 0.3, 20.0  # seconds

pytestmark = pytest.mark.processes


@pytest.fixture
def noted():
    """What was noted: a name, a value and labels each."""
    found = []

    def listen(*observation):
        found.append(observation)

    hooks.listeners.append(listen)
    yield found
    hooks.listeners.remove(listen)


@pytest.fixture(scope="module")
def engine():
    with Engine("fake", device="cpu", replicas=1, timeout=TIMEOUT, idle=IDLE) as running:
        yield running


def test_batches_are_measured_and_a_killed_model_process_is_counted_and_proves_itself_again(engine, noted):
    audio = fake.say("Please call me back.")
    engine.transcribe([audio])

    values = {name: value for name, value, _ in noted}
    assert values["batch_windows"] == 1
    assert values["audio_seconds_total"] == pytest.approx(len(audio) / 16_000)
    # By the length of the window, which is that of the speech and not of the whole audio
    assert (
        0 < values["real_time_factor"] == pytest.approx(values["batch_seconds"] / values["audio_seconds_total"], rel=1)
    )
    assert ("decoded_windows_total", 1, {"decoding_pass": "quick"}) in noted
    assert ("windows_total", 1, {"look": "quick"}) in noted

    [first] = [slot.pid for slot in engine.slots]
    os.kill(first, signal.SIGKILL)

    assert becomes(lambda: ("slot_restarts_total", 1, {"reason": "died_idle"}) in noted, 60)
    assert becomes(lambda: engine.slots[0].pid != first, 60)
    assert becomes(lambda: all(age is not None and age < engine.patience for age in engine.proofs.values()), 60)


@pytest.mark.model
def test_a_window_whose_first_result_is_rejected_is_counted_under_the_pass_that_was_accepted(noted, repetitive):
    with Engine("bundled:tiny.en", device="cpu", replicas=1, timeout=TIMEOUT) as whisper:
        whisper.transcribe([repetitive])

    [(_, value, labels)] = [observation for observation in noted if observation[0] == "decoded_windows_total"]
    assert value == 1
    assert labels["decoding_pass"] != "quick"


def test_every_decoding_pass_is_counted_from_the_start():
    names = {each.name for quick in passes.QUICK_PASSES.values() for each in quick} | {"beam", "halves"}

    assert recognizer.TEMPERATURES
    assert set(METRICS["decoded_windows_total"].known) == names | {"temperature"}


@pytest.mark.usefixtures("redis_url")
def test_a_worker_is_ready_while_every_model_process_is_there_and_has_proved_itself_lately(engine):
    broker = Broker(live.current())
    health = Health(broker, "transcribe")
    assert health.ready()["canary"] == "the model is being loaded"
    broker.engine = engine
    assert becomes(lambda: health.ready()["canary"] is None, 60)

    def long_unproved():
        engine._slots[0].proved_at = time.monotonic() - engine.patience  # as if so much time had passed
        return health.ready()["canary"] or ""

    assert becomes(lambda: "has passed no canary and no batch for" in long_unproved(), 60)
    assert becomes(lambda: health.ready()["canary"] is None, 60), "its canary has passed"

    os.kill(engine.slots[0].pid, signal.SIGKILL)
    assert becomes(lambda: "is being started" in (health.ready()["canary"] or ""), 60)
    assert becomes(lambda: health.ready()["canary"] is None, 60)

    engine.stop(5)  # this must be the last test of the engine
    assert health.ready()["canary"] == "no slot is left"


@pytest.fixture
def repetitive(tmp_path):
    """A spoken sentence that tiny.en's quality check takes for a loop: it is repeated."""
    voice, text = tmp_path / "voice.wav", "Please call me back. Please call me back. Please call me back."
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", voice, text], check=True)
    return load(voice)
