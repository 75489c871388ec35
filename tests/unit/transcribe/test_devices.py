"""Which slots the engine starts: one for each GPU, or as many processes as fit on a CPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.transcribe import EngineError, backends, devices
from pipeline.transcribe.backends.base import DecodingSettings
from pipeline.transcribe.machine import Hardware

GPUS = [SimpleNamespace(index=index, uuid=uuid, name="GPU") for index, uuid in enumerate(["GPU-a", "", "GPU-c"])]
SIZE = 1000  # bytes of the model's weights


def plan(folder, *, encoder_window="auto", **options):
    backend = backends.create("model", DecodingSettings(encoder_window=encoder_window))
    return devices.plan(backend=backend, model="model", path=folder, visible=lambda: GPUS, **options)


@pytest.mark.parametrize(
    ("wanted", "pinned"),
    [("all", ["GPU-a", "1", "GPU-c"]), ("2", ["GPU-c"]), ("1,0", ["1", "GPU-a"])],
)
def test_each_gpu_that_is_wanted_has_a_slot_pinned_to_it(tmp_path, wanted, pinned):
    specs = plan(tmp_path, device="cuda", gpus=wanted)
    assert [(spec.device, spec.gpu, spec.compute_type) for spec in specs] == [
        ("cuda", gpu, "float16") for gpu in pinned
    ]


@pytest.mark.parametrize("index", ["3", "0,3"])
def test_a_gpu_that_is_not_there_is_refused(tmp_path, index):
    with pytest.raises(EngineError, match="3 GPUs are visible"):
        plan(tmp_path, device="cuda", gpus=index)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "tpu"}, "auto, cuda or cpu"),
        ({"replicas": -1}, "a number of processes"),
        ({"device": "cuda", "gpus": "first"}, "indices of GPUs such as 0,1"),
        ({"device": "cuda", "gpus": "-1"}, "indices of GPUs such as 0,1"),
        ({"encoder_window": "half"}, "seconds from 1 to 30"),
        ({"encoder_window": "-5"}, "seconds from 1 to 30"),
        ({"encoder_window": "nan"}, "seconds from 1 to 30"),
    ],
)
def test_an_invalid_option_is_refused_with_what_it_takes(tmp_path, options, words):
    with pytest.raises(EngineError, match=words):
        plan(tmp_path, **options)


@pytest.mark.parametrize(
    ("cores", "memory", "most"),
    [
        (4, 100 * SIZE, 4),
        (64, 100 * SIZE, devices.MOST_REPLICAS),
        (4, 2.5 * devices.MEMORY_PER_MODEL * SIZE, 2),  # each takes memory of its own
        (4, 0, 1),
    ],
)
def test_a_cpu_gets_as_many_processes_as_its_cores_and_memory_allow(tmp_path, cores, memory, most):
    (tmp_path / "model.bin").write_bytes(bytes(SIZE))
    machine = Hardware(cores, int(memory), "processor")
    specs = plan(tmp_path, device="cpu", machine=machine, calibrate=lambda _specs, most: most)
    assert len(specs) == most
    assert sum(spec.threads for spec in specs) <= cores
