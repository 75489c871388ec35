"""Whoever has seen enough may leave: the doctor goes at once, and takes along what it had started."""

import signal

import pytest
from processes import becomes, children, command, end
from world import World


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_doctor_that_is_interrupted_leaves_no_traceback_and_no_process(tmp_path, number, code):
    world = World(tmp_path / "machine").only("gpu", "cuda")
    world.variables["FAKE_FAULT"] = "hang"
    process = world.begin()
    assert becomes(lambda: any("whisper_spec" in command(pid) for pid in children(process.pid)), timeout=30)
    family = children(process.pid)

    process.send_signal(number)
    out, err = process.communicate(timeout=15)

    assert (process.returncode, out, err) == (code, "", "")
    assert end(family)
