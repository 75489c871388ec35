"""What nvidia-smi reports and what it leaves out, from a program in its place: tests have no GPU."""

import pytest

from actors.gpus import Gpus


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a script in nvidia-smi's place."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def says(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return says


def read():
    """Return what a reading finds, once it is over."""
    gpus = Gpus(timeout=0.5)
    gpus.read()
    return gpus.settled()


def test_each_gpu_is_listed_with_its_memory_in_bytes(nvidia_smi, monkeypatch):
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


def test_what_a_gpu_does_not_report_is_none(nvidia_smi):
    nvidia_smi('echo "GRID, 1, 2, [N/A], [Not Supported]"')

    (gpu,) = read()
    assert gpu["utilisation"] is None
    assert gpu["temperature"] is None
