"""What a slot's process does before and around the model: it sees its own GPU, and reports how a call failed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.transcribe import child
from pipeline.transcribe.backends.fake import Fake
from pipeline.transcribe.child import Spec
from pipeline.transcribe.failures import BrokenError, OutOfMemoryError
from pipeline.transcribe.slot import Slot


@pytest.mark.processes
@pytest.mark.parametrize(("gpu", "seen"), [("GPU-8c2f", "GPU-8c2f"), (None, "")])
def test_a_process_sees_its_own_gpu_and_no_other_before_it_is_given_any_work(gpu, seen):
    spec = Spec(Fake(), "fake", Path(), "cuda", "GPU", gpu, "float16", threads=0)
    slot = Slot(spec, timeout=20)
    try:
        assert slot._call(os.getenv, "CUDA_VISIBLE_DEVICES", timeout=60) == seen
    finally:
        slot.stop()


@pytest.mark.parametrize(
    ("raised", "reported"),
    [
        (MemoryError("std::bad_alloc"), OutOfMemoryError),  # CTranslate2 on a CPU
        (RuntimeError("CUDA failed with error out of memory"), OutOfMemoryError),
        (RuntimeError("CUDA failed with error an illegal memory access was encountered"), BrokenError),
        (ValueError("a fault of ours"), BrokenError),
    ],
)
def test_a_lack_of_memory_is_distinguished_from_errors_that_cost_the_process(raised, reported):
    def fails():
        raise raised

    with pytest.raises(reported, match=str(raised)):
        child._guarded(fails)
