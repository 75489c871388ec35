"""A fake backend that a test makes fail by files in a folder, which its processes look for."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.transcribe.backends.base import Recognizer, VoiceDetector, WindowRequest, WindowResult
from pipeline.transcribe.backends.fake import Fake, FakeRecognizer, detect

LEAK = 256 * 1024**2  # bytes that a leaking process keeps of every batch; more than a free heap has room for

# Names of the files
UNFIT = "unfit"  # no process can load its model
UNFIT_SLOT = "unfit-slot"  # the process that loads first cannot, however often it tries
DIE = "die"  # the next process to load dies
HOLD = "hold"  # batches wait until the file is gone; BEGUN shows that one does
HOLD_CUTTING = "hold-cutting"  # messages that are cut in the background wait until the file is gone
BEGUN = "begun"
LEAKING = "leaking"

_kept: list[bytearray] = []


def wait_while(file: Path) -> None:
    while file.exists():
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Faulty(Fake):
    """The fake backend, with the folder of its faults."""

    folder: Path = Path()

    def voice_detector(self) -> VoiceDetector:
        def hold_and_detect(samples: np.ndarray) -> list[tuple[int, int]]:
            if len(samples) > 120 * 16_000:
                wait_while(self.folder / HOLD_CUTTING)
            return detect(samples)

        return hold_and_detect

    def load(self, path: Path, device: str, compute_type: str, threads: int) -> Recognizer:
        if (self.folder / UNFIT).exists():
            raise RuntimeError("the fake is unfit")
        if (mark := self.folder / UNFIT_SLOT).exists():
            owner = mark.with_suffix(".owner")
            with suppress(FileExistsError):
                owner.symlink_to(str(os.getpid()))
            if owner.readlink() == Path(str(os.getpid())):
                raise RuntimeError("this slot is unfit")
        try:
            (self.folder / DIE).unlink()
        except FileNotFoundError:
            return FaultyRecognizer(self, device, compute_type)
        os.abort()


class FaultyRecognizer(FakeRecognizer):
    """The fake's recognizer in a process that holds and leaks."""

    def __init__(self, faulty: Faulty, device: str, compute_type: str) -> None:
        super().__init__(faulty, device, compute_type)
        self._folder = faulty.folder

    def run(self, requests: list[WindowRequest]) -> list[WindowResult]:
        if (self._folder / HOLD).exists():
            (self._folder / BEGUN).touch()
            wait_while(self._folder / HOLD)
        if (self._folder / LEAKING).exists():
            _kept.append(bytearray(b"x") * LEAK)
        return super().run(requests)
