"""Windows that harm the process that decodes them: told by how loud they are, so that they travel like any other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.transcribe import child
from pipeline.transcribe.failures import OutOfMemoryError, UnfitError
from pipeline.transcribe.options import Options
from pipeline.transcribe.window import Window, WindowResult

LOUD = 2.0  # full scale is 1: no real message is as loud
ROOM = 2  # windows that the small device holds
LEAK = 256 * 1024**2  # bytes that the leaking process keeps of every batch; more than a free heap has room for

Work = Sequence[tuple[Window, Options]]

_honest_start, _honest_run = child.start, child.run
_kept: list[bytearray] = []


def poisoned(work: Work) -> bool:
    return any(np.abs(window.audio).max() > LOUD for window, _ in work)


def abort(work: Work) -> list[WindowResult]:
    if poisoned(work):
        os.abort()
    return _honest_run(work)


def hang(work: Work) -> list[WindowResult]:
    if poisoned(work):
        time.sleep(3600)
    return _honest_run(work)


def wait(work: Work) -> list[WindowResult]:
    Path(os.environ["BEGUN"]).touch()
    while not Path(os.environ["GO_ON"]).exists():
        time.sleep(0.02)
    return _honest_run(work)


def fault(work: Work) -> list[WindowResult]:
    return child._guarded(_fault, work)


def _fault(work: Work) -> list[WindowResult]:
    if poisoned(work):
        raise RuntimeError("CUDA failed with error an illegal memory access was encountered")
    return _honest_run(work)


def small_device(work: Work) -> list[WindowResult]:
    if len(work) > ROOM:
        raise OutOfMemoryError("CUDA failed with error out of memory")
    return _honest_run(work)


def crowded_device(work: Work) -> list[WindowResult]:
    if poisoned(work):
        raise OutOfMemoryError("CUDA failed with error out of memory")
    return _honest_run(work)


def leak(work: Work) -> list[WindowResult]:
    _kept.append(bytearray(b"x") * LEAK)
    return _honest_run(work)


def dies_once(spec: child.Spec) -> child.SlotInfo:
    try:
        Path(os.environ["DIED"]).touch(exist_ok=False)
    except FileExistsError:
        return _honest_start(spec)
    os.abort()


def unfit(spec: child.Spec) -> child.SlotInfo:
    raise UnfitError(f"{spec.model} does not decode its canary")
