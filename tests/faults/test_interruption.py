"""An interrupted doctor exits at once and kills the processes that it started."""

import signal
import socket
import time

import pytest
from processes import becomes, children, command, end
from world import World

pytestmark = pytest.mark.catalogue


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_doctor_that_is_interrupted_leaves_no_traceback_and_no_process(tmp_path, number, code):
    world = World(tmp_path / "machine").only("gpu", "cuda")
    world.variables["FAKE_FAULT"] = "hang"
    process = world.begin()
    assert becomes(lambda: any("whisper_spec" in command(pid) for pid in children(process.pid)))
    family = children(process.pid)

    process.send_signal(number)
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out, err) == (code, "", "")
    assert end(family)


def test_a_doctor_that_waits_for_a_silent_redis_exits_at_once(tmp_path):
    world = World(tmp_path / "machine").only("redis")
    world.patch("pipeline.doctor.checks.redis", TIMEOUT=30.0, TOTAL_TIMEOUT=30.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        world.variables["REDIS_URL"] = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        process = world.begin()
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100).endswith(b"PING\r\n")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=40)

    assert time.monotonic() - begun < 10
    assert (process.returncode, out, err) == (143, "", "")
