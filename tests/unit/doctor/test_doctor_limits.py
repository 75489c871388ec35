"""Time limits: a worker whose driver does not respond exits within 10 s."""

import threading

from pipeline.doctor import child, devices, smi
from pipeline.doctor.checks import gpu, loading
from pipeline.doctor.machine import Machine
from pipeline.doctor.target import Target

START = 3.0  # seconds in which a worker begins, asks and ends


def test_the_driver_and_nvidia_smi_are_queried_at_once():
    both = threading.Barrier(2, timeout=10)

    def driver(*, context):
        both.wait()
        return devices.Driver(child.ProcessResult(None, "", "", 6.0))

    def nvidia_smi():
        both.wait()
        return smi.SmiOutput()

    found = gpu.examine(Machine("cuda", None, Target("python3", None), {}, query_driver=driver), nvidia_smi)

    assert [each.code for each in found] == ["driver_hangs"]


def test_all_limits_of_what_is_asked_at_once_leave_a_refused_worker_time_to_exit():
    assert max(devices.TIMEOUT, 2 * smi.TIMEOUT, loading.HANG) + START < 10
