"""What the engine tells of its batches, and of a model process that is killed."""

import os
import signal
import subprocess

import pytest
from processes import becomes

from pipeline import measures
from pipeline.transcribe import Engine
from pipeline.transcribe.audio import load

IDLE = 0.3  # seconds


@pytest.fixture
def noted(monkeypatch):
    """What was noted: a name, a value and labels each."""
    found = []
    monkeypatch.setattr(measures, "listeners", [lambda *what: found.append(what)])
    return found


@pytest.fixture
def engine(noted):
    running = Engine("bundled:tiny.en", device="cpu", replicas=1, timeout=20, idle=IDLE)
    yield running
    running.stop(5)


def test_batches_are_measured_and_a_killed_model_process_is_counted_and_proves_itself_anew(engine, noted, tmp_path):
    voice = tmp_path / "voice.wav"
    subprocess.run(["espeak-ng", "-s", "150", "-w", voice, "Please move our meeting to Thursday at three."], check=True)
    audio = load(voice)
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
