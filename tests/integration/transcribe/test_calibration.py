"""How many model processes share the CPU is tried once, and remembered."""

import json
from dataclasses import replace

import pytest

from pipeline.transcribe import calibration, devices, machine, models

CORES = 4


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "FILE", tmp_path / "state" / "replicas.json")
    return calibration.FILE


def plan(replicas=0, compute_type="int8"):
    path = models.resolve("bundled:tiny.en")
    return devices.plan(
        model="bundled:tiny.en",
        path=path,
        device="cpu",
        compute_type=compute_type,
        replicas=replicas,
        gpus="all",
        encoder_window="auto",
        beam_size=5,
    )


def rates(monkeypatch, table):
    """Have the trials end with these windows a second, by number of processes, and return which were made."""
    tried = []

    def rate(specs):
        tried.append(len(specs))
        return table[len(specs)]

    monkeypatch.setattr(calibration, "_rate", rate)
    monkeypatch.setattr(machine, "available_cores", lambda: CORES)
    return tried


def test_real_processes_are_tried_once_and_the_outcome_is_kept(file, monkeypatch):
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    first = plan()
    assert [spec.threads for spec in first] in ([1, 1], [2])
    assert list(json.loads(file.read_text()).values()) == [len(first)]
    monkeypatch.setattr(calibration, "_rate", lambda specs: pytest.fail("tried again"))
    assert plan() == first


@pytest.mark.parametrize(
    ("table", "count", "tried"),
    [
        ({4: 10.0, 2: 9.0}, 4, [4, 2]),
        ({4: 10.0, 2: 10.5}, 4, [4, 2]),  # not worth having fewer batches at work
        ({4: 10.0, 2: 12.0, 1: 12.0}, 2, [4, 2, 1]),
        ({4: 10.0, 2: 12.0, 1: 14.0}, 1, [4, 2, 1]),
        ({4: 0.0, 2: 5.0, 1: 4.0}, 2, [4, 2, 1]),  # four do not start
    ],
)
def test_fewer_are_taken_where_they_are_clearly_faster(monkeypatch, table, count, tried):
    seen = rates(monkeypatch, table)
    specs = plan()
    assert len(specs) == count
    assert {spec.threads for spec in specs} == {CORES // count}
    assert seen == tried


def test_a_number_that_was_wished_for_is_not_tried(monkeypatch):
    seen = rates(monkeypatch, {})
    assert len(plan(replicas=3)) == 3
    assert len(plan(replicas=9)) == CORES
    assert not seen


def test_another_arithmetic_is_tried_anew_and_both_are_kept(file, monkeypatch):
    seen = rates(monkeypatch, {4: 10.0, 2: 9.0})
    plan()
    plan(compute_type="float32")
    assert seen == [4, 2, 4, 2]
    assert len(json.loads(file.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1', "null"])
def test_a_damaged_memory_costs_only_another_trial(file, monkeypatch, content):
    seen = rates(monkeypatch, {4: 10.0, 2: 9.0})
    file.parent.mkdir()
    file.write_text(content)
    assert len(plan()) == 4
    assert seen == [4, 2]
    plan()
    assert seen == [4, 2]


def test_a_trial_that_failed_is_made_again_at_the_next_start(file, monkeypatch):
    table = {4: 0.0, 2: 9.0, 1: 5.0}
    rates(monkeypatch, table)
    assert len(plan()) == 2
    assert not file.exists()
    table[4] = 10.0
    assert len(plan()) == 4
    assert file.exists()


def test_a_folder_that_cannot_be_written_costs_only_another_trial(tmp_path, monkeypatch):
    seen = rates(monkeypatch, {4: 10.0, 2: 9.0})
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setattr(calibration, "FILE", tmp_path / "taken" / "replicas.json")
    assert len(plan()) == len(plan()) == 4
    assert seen == [4, 2, 4, 2]


def test_processes_that_cannot_work_lose_against_fewer_that_can(file, monkeypatch):
    good = plan(replicas=1)[0]
    bad = replace(good, compute_type="no such arithmetic")
    assert calibration.replicas(lambda count: [good] if count == 1 else [good, bad], 2) == 1
