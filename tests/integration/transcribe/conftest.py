"""Engines that tests share: loading a model takes longer than most of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from faulty import Faulty

from pipeline.metrics import hooks
from pipeline.transcribe import Engine
from pipeline.transcribe.audio import load


@pytest.fixture(scope="session")
def fake_engine():
    """An engine on the fake backend, whose windows take long enough for progress to be reported."""
    with Engine("fake:delay=0.02", device="cpu", replicas=2) as engine:
        yield engine


@pytest.fixture
def faulty(tmp_path):
    """A backend whose faults are files in `faulty.folder`."""
    return Faulty(folder=tmp_path)


@pytest.fixture
def noted():
    """What was noted: a name, a value and labels each."""
    found = []

    def listen(*what):
        found.append(what)

    hooks.listeners.append(listen)
    yield found
    hooks.listeners.remove(listen)


@pytest.fixture(scope="session")
def engine():
    with Engine("bundled:tiny.en", device="cpu", replicas=2, timeout=20) as engine:
        yield engine


@pytest.fixture(scope="session")
def speak(tmp_path_factory):
    """Return a function that has espeak-ng say something: float32 at 16 kHz."""
    folder = tmp_path_factory.mktemp("speech")

    def say(text: str, *, voice: str = "en-us", words_per_minute: int = 140) -> np.ndarray:
        file: Path = folder / f"{abs(hash((text, voice, words_per_minute)))}.wav"
        if not file.exists():
            subprocess.run(["espeak-ng", "-s", str(words_per_minute), "-v", voice, "-w", str(file), text], check=True)
        return load(file)

    return say


@pytest.fixture(scope="session")
def multilingual():
    with Engine("bundled:base", device="cpu", replicas=1, timeout=20) as engine:
        yield engine
