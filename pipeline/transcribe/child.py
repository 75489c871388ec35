"""What runs inside a slot's process: take leave of the parent's signals, load the model, prove it, decode batches.

Whatever this module raises must survive pickling; whatever kills the process is the parent's to notice.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.transcribe.failures import OutOfMemoryError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.transcribe.options import Options
    from pipeline.transcribe.recognizer import Recognizer
    from pipeline.transcribe.window import Window, WindowResult

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

_recognizer: Recognizer | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """What a slot's process needs to know: where the model is and on what it runs.

    `gpu` is the value of CUDA_VISIBLE_DEVICES, an index or a UUID; None on a CPU.
    """

    model: str
    path: Path
    device: str
    device_name: str
    gpu: str | None
    compute_type: str
    threads: int
    encoder_window: str
    beam_size: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot as it proved itself: the device its model really is on, and how long that took (seconds)."""

    device: str
    device_name: str
    model: str
    compute_type: str
    path: str
    load_seconds: float
    canary_seconds: float
    libraries: tuple[str, ...]
    pid: int
    multilingual: bool


def initialize(gpu: str | None) -> None:
    """Detach from the parent's group, die when the parent dies, and see no GPU but one's own."""
    os.setpgid(0, 0)  # a signal to the worker's group is the worker's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler would wait for C code to come back
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""


def start(spec: Spec) -> SlotInfo:
    """Load the model, assert its device, and decode the canary to its end.

    Raises:
        UnfitError: the device or the model cannot be used.
    """
    global _recognizer  # noqa: PLW0603 - the one thing that a process keeps between two batches
    libraries: list[str] = []
    if spec.device == "cuda":
        from pipeline.doctor import libraries as cuda  # noqa: PLC0415 - only where there is a GPU

        libraries = cuda.preload()
    begun = time.monotonic()
    from pipeline.transcribe.recognizer import Recognizer  # noqa: PLC0415 - after the libraries are in

    try:
        recognizer = Recognizer(
            spec.path, spec.device, spec.compute_type, spec.threads, spec.encoder_window, spec.beam_size
        )
        if recognizer.device != spec.device:
            raise UnfitError(f"the model was to run on {spec.device} and runs on {recognizer.device}")
        loaded = time.monotonic()
        recognizer.canary()
    except (RuntimeError, ValueError) as error:
        raise UnfitError(f"{spec.model} on {spec.device_name}: {error}") from error
    _recognizer = recognizer
    return SlotInfo(
        device=recognizer.device,
        device_name=spec.device_name,
        model=spec.model,
        compute_type=recognizer.compute_type,
        path=str(spec.path),
        load_seconds=round(loaded - begun, 2),
        canary_seconds=round(time.monotonic() - loaded, 2),
        libraries=tuple(libraries),
        pid=os.getpid(),
        multilingual=recognizer.multilingual,
    )


def canary() -> int:
    """Prove an idle slot: decode noise to its end, and return the memory that the process holds (bytes)."""
    if _recognizer is None:
        raise UnfitError("this process has loaded no model")
    _recognizer.canary()
    return resident()


def run(work: Sequence[tuple[Window, Options]]) -> list[WindowResult]:
    """Decode a batch of windows.

    Raises:
        OutOfMemoryError: the batch does not fit.
    """
    if _recognizer is None:
        raise UnfitError("this process has loaded no model")
    try:
        return _recognizer.run(work)
    except MemoryError as error:
        raise OutOfMemoryError(str(error)) from error
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise OutOfMemoryError(str(error)) from error
        raise


def resident() -> int:
    """Return the physical memory that this process holds (bytes)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
