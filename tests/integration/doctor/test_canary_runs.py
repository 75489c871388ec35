"""The canaries on the CPU, and the different ways in which they fail."""

import sys

import pytest

from pipeline.doctor import canary
from pipeline.doctor.devices import visible


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_a_model_of_random_weights_runs_to_its_end(compute):
    run = canary.micro(sys.executable, "cpu", compute)

    assert run.ok, run.outcome.err
    assert run.device == "cpu"


def test_a_canary_that_does_not_end_is_ended():
    run = canary.micro(sys.executable, "cpu", timeout=0.01)

    assert run.outcome.hung
    assert not run.ok


def test_a_device_that_is_not_there_is_an_error_and_not_a_crash_of_ours():
    assert visible() == []
    run = canary.micro(sys.executable, "cuda")

    assert not run.ok
    assert "CUDA" in run.outcome.last_line
