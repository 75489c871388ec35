"""What runs inside a slot's process: take leave of the parent's signals, load the model, prove it, decode batches.

Whatever this module raises must survive pickling; whatever kills the process is the parent's to notice.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import threadpool_limits

from pipeline.transcribe.failures import BrokenError, GoneError, OutOfMemoryError, UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.transcribe.options import Options
    from pipeline.transcribe.recognizer import Recognizer
    from pipeline.transcribe.window import Window, WindowResult

TRIAL = 1.0  # seconds that a trial takes at least
# Bytes that the C library keeps for the next operation instead of giving them back to the kernel each time. Of a full
# encoder window of tiny the kernel's work is a third: 0.77 s on one core, and 0.49 s without.
KEPT = 1 << 30
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>

T = TypeVar("T")

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
    languages: frozenset[str] = field(repr=False)  # codes that the model knows
    window: float  # most seconds that a window should have
    long_window: float  # the same in a long message

    @property
    def multilingual(self) -> bool:
        """Whether the model knows other languages than English."""
        return len(self.languages) > 1


def initialize(gpu: str | None) -> None:
    """Detach from the parent's group, die when the parent dies, and see no GPU but one's own."""
    os.setpgid(0, 0)  # a signal to the worker's group is the worker's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler would wait for C code to come back
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(libc, "mallopt"):  # not in musl
        for limit in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(limit, KEPT)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
    if _has_avx512():  # CTranslate2 takes AVX2 on AMD's processors; the encoder gains a seventh
        os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def _has_avx512() -> bool:
    """Tell whether the processor has all that CTranslate2's AVX-512 code was compiled for."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return False
    return {"avx512f", "avx512cd", "avx512vl", "avx512bw", "avx512dq"} <= set(flags)


def start(spec: Spec) -> SlotInfo:
    """Load the model, assert its device, and decode the canary to its end.

    Raises:
        UnfitError: the device or the model cannot be used.
    """
    global _recognizer  # noqa: PLW0603 - the one thing that a process keeps between two batches
    libraries: list[str] = []
    try:
        if spec.device == "cuda":
            from pipeline.doctor import libraries as cuda  # noqa: PLC0415 - only where there is a GPU

            libraries = cuda.preload()
        begun = time.monotonic()
        from pipeline.transcribe.recognizer import Recognizer  # noqa: PLC0415 - after the libraries are in

        # The spectrogram's one matrix product: slots that all spread it over all cores take 16 times as long for it.
        threadpool_limits(1, user_api="blas")
        recognizer = Recognizer(
            spec.path, spec.device, spec.compute_type, spec.threads, spec.encoder_window, spec.beam_size
        )
        loaded = time.monotonic()
        recognizer.canary()
    except Exception as error:  # whatever it is, the parent must hear of it in words
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
        libraries=tuple(libraries),
        pid=os.getpid(),
        languages=frozenset(recognizer.languages),
        window=recognizer.window,
        long_window=recognizer.long_window,
    )


def canary() -> None:
    """Prove an idle slot: decode noise to its end."""
    _guarded(_loaded().canary)


def trial() -> float:
    """Return how many windows a second this process decodes, while others beside it do the same."""
    recognizer = _loaded()
    done, began = 0, time.monotonic()
    while (took := time.monotonic() - began) < TRIAL:
        done += _guarded(recognizer.trial)
    return done / took


def run(work: Sequence[tuple[Window, Options]]) -> list[WindowResult]:
    """Decode a batch of windows.

    Raises:
        OutOfMemoryError: the batch does not fit.
    """
    return _guarded(_loaded().run, work)


def _loaded() -> Recognizer:
    if _recognizer is None:
        raise GoneError("the process that had the model has been replaced")
    return _recognizer


def _guarded(function: Callable[..., T], *args: Any) -> T:
    """Call into the model; any failure but a lack of memory leaves the process in doubt, and is reported as such."""
    try:
        return function(*args)
    except MemoryError as error:
        raise OutOfMemoryError(str(error)) from error
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise OutOfMemoryError(str(error)) from error
        raise BrokenError(f"{type(error).__name__}: {error}") from error
