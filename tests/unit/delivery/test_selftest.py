"""When a worker counts as unfit, pauses, and resumes."""

import threading

import pytest
from processes import becomes
from structlog.testing import capture_logs

from actors.selftest import SelfTest
from voicemill.errors import ErrorCode, Fault, JobError


class Machine:
    """A machine that breaks and recovers; it counts how often it is tested."""

    def __init__(self):
        self.fault = None
        self.tests = 0
        self.tested = threading.Condition()

    def __call__(self):
        with self.tested:
            self.tests += 1
            self.tested.notify_all()
        if self.fault is not None:
            raise self.fault

    def await_tests(self, count):
        with self.tested:
            return self.tested.wait_for(lambda: self.tests >= count, 30)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def self_test(machine):
    found = SelfTest("decode", interval=0.01)
    found.test = machine
    yield found
    found.after_worker_shutdown(None, None)


NO_FFMPEG = JobError(ErrorCode.WORKER_UNFIT, "ffmpeg is not installed on this worker: install ffmpeg")
UNDECODABLE = JobError(ErrorCode.UNDECODABLE, "FFmpeg cannot read it")


def test_a_fit_worker_is_not_blamed(self_test):
    for code in ErrorCode:
        assert self_test.explains(JobError(ErrorCode(code), "no")) is None
    assert self_test.may_take("decode")


@pytest.mark.parametrize("code", ["worker_unfit", "disk_full", "undecodable", "decode_crashed", "internal"])
def test_a_worker_that_fails_its_test_is_blamed_whatever_the_message_failed_with(self_test, machine, code):
    machine.fault = NO_FFMPEG

    assert self_test.explains(JobError(ErrorCode(code), "no")) == NO_FFMPEG.message

    assert not self_test.may_take("decode")
    assert self_test.may_take("decode.DQ")


def test_an_exception_that_the_test_does_not_know_means_unfit(self_test, machine):
    machine.fault = OSError(24, "Too many open files")

    assert "Too many open files" in (self_test.explains(UNDECODABLE) or "")


def test_an_error_from_outside_is_not_the_worker_s(self_test, machine):
    machine.fault = NO_FFMPEG

    assert ErrorCode.SOURCE_UNAVAILABLE.fault is Fault.OUTSIDE
    assert self_test.explains(JobError(ErrorCode.SOURCE_UNAVAILABLE, "no")) is None
    assert machine.tests == 0


def test_the_machine_is_tested_before_the_first_message(self_test, machine):
    machine.fault = NO_FFMPEG

    self_test.before_worker_boot(None, None)

    assert not self_test.may_take("decode")


def test_broken_files_in_a_row_cost_one_test(self_test, machine):
    for _ in range(10):
        assert self_test.explains(UNDECODABLE) is None
    assert machine.tests == 1

    machine.fault = NO_FFMPEG
    assert self_test.explains(JobError(ErrorCode.DISK_FULL, "no")) == NO_FFMPEG.message, (
        "an error of the worker's is tested"
    )


def test_a_paused_worker_resumes_once_the_machine_has_recovered(self_test, machine):
    machine.fault = NO_FFMPEG
    self_test.explains(UNDECODABLE)
    assert machine.await_tests(3)
    assert not self_test.may_take("decode")

    with capture_logs() as logged:
        machine.fault = None
        assert becomes(lambda: [line for line in logged if line["event"] == "Worker resumed"])

    assert self_test.may_take("decode")
    assert self_test.explains(UNDECODABLE) is None
