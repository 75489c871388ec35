"""What runs inside a slot's process: detach from the parent's signals, load the model, run the canary, decode batches.

Every exception that leaves this module must survive pickling. The parent notices when the process itself dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.transcribe.failures import BrokenError, GoneError, OutOfMemoryError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.transcribe.backends.base import Backend, Capabilities, Recognizer, WindowRequest, WindowResult

TRIAL = 1.0  # seconds that a trial takes at least
# Bytes that the C library keeps for the next operation instead of returning them to the kernel each time. The kernel's
# work is a third of what Whisper's tiny takes for 30 s: 0.77 s on one core, and 0.49 s without.
KEPT = 1 << 30
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>

T = TypeVar("T")

_recognizer: Recognizer | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """What a slot's process needs to know: the backend, its model, and the device.

    `gpu` is the value of CUDA_VISIBLE_DEVICES, an index or a UUID; None on a CPU.
    """

    backend: Backend
    model: str
    path: Path
    device: str
    device_name: str
    gpu: str | None
    compute_type: str
    threads: int


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot that has passed its canary: the device its model really is on, and how long loading took (seconds)."""

    device: str
    device_name: str
    model: str
    compute_type: str
    path: str
    load_seconds: float
    canary_seconds: float
    libraries: tuple[str, ...]
    pid: int
    capabilities: Capabilities = field(repr=False)


def initialize(gpu: str | None) -> None:
    """Leave the parent's process group, set the parent-death signal, and hide all GPUs but the slot's own."""
    os.setpgid(0, 0)  # a signal to the worker's group is the worker's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler would wait for C code to come back
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(libc, "mallopt"):  # not in musl
        for limit in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(limit, KEPT)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""


def start(spec: Spec) -> SlotInfo:
    """Load the model, check its device, and run the canary.

    Raises:
        UnfitError: the device or the model cannot be used.
    """
    global _recognizer  # noqa: PLW0603 - the one thing that a process keeps between two batches
    try:
        libraries = spec.backend.preload(spec.device)
        begun = time.monotonic()
        recognizer = spec.backend.load(spec.path, spec.device, spec.compute_type, spec.threads)
        loaded = time.monotonic()
        recognizer.canary()
    except Exception as error:  # the library's own exceptions need not survive pickling
        raise UnfitError(f"{spec.model} on {spec.device_name}: {type(error).__name__}: {error}") from error
    if recognizer.device != spec.device:
        raise UnfitError(f"{spec.model} was to run on {spec.device} and runs on {recognizer.device}")
    _recognizer = recognizer
    return SlotInfo(
        device=recognizer.device,
        device_name=spec.device_name,
        model=spec.model,
        compute_type=recognizer.compute_type,
        path=str(spec.path),
        load_seconds=round(loaded - begun, 2),
        canary_seconds=round(time.monotonic() - loaded, 2),
        libraries=libraries,
        pid=os.getpid(),
        capabilities=recognizer.capabilities,
    )


def canary() -> None:
    """Run the canary of an idle slot."""
    _guarded(_loaded().canary)


def trial() -> float:
    """Return how many windows a second this process decodes, while others beside it do the same."""
    recognizer = _loaded()
    done, began = 0, time.monotonic()
    while (took := time.monotonic() - began) < TRIAL:
        done += _guarded(recognizer.trial)
    return done / took


def run(requests: Sequence[WindowRequest]) -> list[WindowResult]:
    """Decode a batch of windows.

    Raises:
        OutOfMemoryError: the batch does not fit.
    """
    return _guarded(_loaded().run, requests)


def _loaded() -> Recognizer:
    if _recognizer is None:
        raise GoneError("the process that had the model has been replaced")
    return _recognizer


def _guarded(function: Callable[..., T], *args: Any) -> T:
    """Call into the model; report any error but a lack of memory as one after which the process is not reused."""
    try:
        return function(*args)
    except MemoryError as error:
        raise OutOfMemoryError(str(error)) from error
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise OutOfMemoryError(str(error)) from error
        raise BrokenError(f"{type(error).__name__}: {error}") from error
