"""How many model processes share a CPU is measured once, and kept."""

import json
from functools import partial
from pathlib import Path

import pytest
from faulty import UNFIT, Faulty

from pipeline.transcribe import calibration, devices
from pipeline.transcribe.backends.fake import Fake
from pipeline.transcribe.machine import Hardware

CORES = 4
MACHINE = Hardware(CORES, 1 << 40, "a processor")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "replicas.json"


def plan(calibrate, *, machine=MACHINE, **options):
    return devices.plan(
        backend=Fake(), model="fake", path=Path(), device="cpu", machine=machine, calibrate=calibrate, **options
    )


class Rates:
    """Measures these windows a second, by number of processes, and keeps which were measured."""

    def __init__(self, table):
        self.table = table
        self.measured = []

    def __call__(self, specs):
        self.measured.append(len(specs))
        return self.table[len(specs)]


def calibrated(file, rates):
    return partial(calibration.replicas, file=file, rate=rates)


@pytest.mark.processes
def test_real_processes_are_measured_once_and_the_result_is_kept(file):
    machine = Hardware(2, 1 << 40, "a processor")
    first = plan(partial(calibration.replicas, file=file), machine=machine)
    assert [spec.threads for spec in first] in ([1, 1], [2])
    assert list(json.loads(file.read_text()).values()) == [len(first)]
    rates = Rates({})
    assert plan(calibrated(file, rates), machine=machine) == first
    assert not rates.measured


@pytest.mark.model
@pytest.mark.processes
def test_processes_of_a_real_model_are_measured(file):
    from pipeline.transcribe import backends

    whisper, name = backends.create("bundled:tiny.en"), "bundled:tiny.en"
    path = whisper.resolve(name, None)
    [spec] = devices.plan(backend=whisper, model=name, path=path, device="cpu", replicas=1)
    assert calibration.replicas(lambda count: [spec] * count, 1, file=file) == 1
    assert calibration.rate([spec]) > 0
    [key] = json.loads(file.read_text())
    assert f"{(path / 'model.bin').stat().st_size} bytes in int8, ctranslate2 " in key


@pytest.mark.parametrize(
    ("table", "count", "measured"),
    [
        ({4: 10.0, 2: 9.0}, 4, [4, 2]),
        ({4: 10.0, 2: 10.5}, 4, [4, 2]),  # not worth having fewer batches at work
        ({4: 10.0, 2: 12.0, 1: 12.0}, 2, [4, 2, 1]),
        ({4: 10.0, 2: 12.0, 1: 14.0}, 1, [4, 2, 1]),
        ({4: 0.0, 2: 5.0, 1: 4.0}, 2, [4, 2, 1]),  # four do not start
    ],
)
def test_fewer_are_taken_if_they_are_clearly_faster(file, table, count, measured):
    rates = Rates(table)
    specs = plan(calibrated(file, rates))
    assert len(specs) == count
    assert {spec.threads for spec in specs} == {CORES // count}
    assert rates.measured == measured


def test_a_number_that_is_set_is_not_measured(file):
    rates = Rates({})
    assert len(plan(calibrated(file, rates), replicas=3)) == 3
    assert len(plan(calibrated(file, rates), replicas=9)) == CORES
    assert not rates.measured


def test_another_arithmetic_is_measured_anew_and_both_are_kept(file):
    rates = Rates({4: 10.0, 2: 9.0})
    plan(calibrated(file, rates))
    plan(calibrated(file, rates), compute_type="float32")
    assert rates.measured == [4, 2, 4, 2]
    assert len(json.loads(file.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1', "null"])
def test_a_damaged_file_costs_only_another_measurement(file, content):
    rates = Rates({4: 10.0, 2: 9.0})
    file.parent.mkdir()
    file.write_text(content)
    assert len(plan(calibrated(file, rates))) == 4
    assert rates.measured == [4, 2]
    plan(calibrated(file, rates))
    assert rates.measured == [4, 2]


def test_a_measurement_that_failed_is_repeated_at_the_next_start(file):
    rates = Rates({4: 0.0, 2: 9.0, 1: 5.0})
    assert len(plan(calibrated(file, rates))) == 2
    assert not file.exists()
    rates.table[4] = 10.0
    assert len(plan(calibrated(file, rates))) == 4
    assert file.exists()


def test_a_folder_that_cannot_be_written_costs_only_another_measurement(tmp_path):
    rates = Rates({4: 10.0, 2: 9.0})
    (tmp_path / "taken").write_text("a file where the folder should be")
    calibrate = calibrated(tmp_path / "taken" / "replicas.json", rates)
    assert len(plan(calibrate)) == len(plan(calibrate)) == 4
    assert rates.measured == [4, 2, 4, 2]


@pytest.mark.processes
def test_processes_that_cannot_work_lose_against_fewer_that_can(file, tmp_path):
    (tmp_path / UNFIT).touch()
    [good] = plan(None, replicas=1)
    [bad] = devices.plan(
        backend=Faulty(folder=tmp_path), model="faulty", path=Path(), device="cpu", replicas=1, machine=MACHINE
    )
    assert calibration.replicas(lambda count: [good] if count == 1 else [good, bad], 2, file=file) == 1
