"""Every fault is named, with its culprit and its cure; no healthy machine is accused."""

import pytest
from catalogue import CASES

FAULTS = [case for case in CASES if case.code]
HEALTHY = [case for case in CASES if not case.code]


def findings(report):
    return [found for check in report["checks"] for found in check["findings"]]


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_the_doctor_names_the_fault_its_culprit_and_its_cure(case, verdicts):
    code, report = verdicts[case.name]

    named = [found for found in findings(report) if found["code"] == case.code]
    assert named, findings(report)
    assert any(
        case.culprit in found["message"] + found["evidence"]
        and case.fix in found["fix"]
        and found["status"] == case.status
        for found in named
    ), named
    assert code == (1 if case.status == "fail" else 0)
    assert report["ok"] == (code == 0)


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_the_doctor_accuses_no_healthy_machine(case, verdicts):
    code, report = verdicts[case.name]

    assert code == 0
    assert not [found for found in findings(report) if found["status"] not in ("pass", "skip")]


def test_no_fault_is_blamed_on_the_doctor(verdicts):
    crashed = {name: report for name, (_, report) in verdicts.items() if "check_crashed" in str(report)}

    assert not crashed


def test_the_catalogue_is_as_large_as_promised():
    assert len(FAULTS) >= 30
    assert len(HEALTHY) >= 8
