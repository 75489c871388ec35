"""What nvidia-smi tells and does not tell, from a program in its place: there is no GPU where tests run."""

import pytest

from actors import gpus


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a script in nvidia-smi's place."""
    monkeypatch.setattr(gpus, "_next", 0.0)
    monkeypatch.setattr(gpus, "_last", [])
    monkeypatch.setattr(gpus, "TIMEOUT", 0.5)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def says(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return says


def read():
    """Return what a reading finds, once it is over."""
    gpus.read()
    with gpus._asking:
        return gpus.read()


def test_each_gpu_is_told_with_memory_in_bytes(nvidia_smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    nvidia_smi('[ "$4" = 0 ] && echo "NVIDIA A10, 4096, 23028, 87, 61"')

    (gpu,) = read()

    assert gpu["name"] == "NVIDIA A10"
    assert (gpu["memory_used"], gpu["memory_total"]) == (4096 * 2**20, 23028 * 2**20)
    assert (gpu["utilisation"], gpu["temperature"]) == (87, 61)


@pytest.mark.parametrize(
    "script",
    ["exit 9", "echo Failed to initialize NVML: Driver/library version mismatch", "exec sleep 60"],
    ids=["fails", "complains", "hangs"],
)
def test_a_sick_driver_costs_the_numbers_and_nothing_else(nvidia_smi, script):
    nvidia_smi(script)

    assert read() == []


def test_what_a_gpu_does_not_tell_is_none(nvidia_smi):
    nvidia_smi('echo "GRID, 1, 2, [N/A], [Not Supported]"')

    (gpu,) = read()
    assert gpu["utilisation"] is None
    assert gpu["temperature"] is None
