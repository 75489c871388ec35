"""What a driver that never answers can cost: a worker that it is refused for exits within 10 s."""

import threading

from pipeline.doctor import child, devices, smi
from pipeline.doctor.box import Box
from pipeline.doctor.checks import gpu, loading
from pipeline.doctor.target import Target

START = 3.0  # seconds in which a worker begins, asks and ends


def test_the_driver_and_nvidia_smi_are_asked_at_once(monkeypatch):
    both = threading.Barrier(2, timeout=10)

    def driver(*, context):
        both.wait()
        return devices.Driver(child.Outcome(None, "", "", 6.0))

    def witness():
        both.wait()
        return smi.Witness()

    monkeypatch.setattr(devices, "ask", driver)
    monkeypatch.setattr(smi, "ask", witness)
    found = gpu.examine(Box("cuda", None, Target("python3", None), {}))

    assert [each.code for each in found] == ["driver_hangs"]


def test_all_limits_of_what_is_asked_at_once_leave_a_refused_worker_time_to_exit():
    assert max(devices.TIMEOUT, 2 * smi.TIMEOUT, loading.HANG) + START < 10
