"""The doctor reports every fault with its cause and its fix, and nothing on healthy machines."""

import shlex

import pytest
from catalogue import CASES

from pipeline.doctor.findings import CODES

pytestmark = pytest.mark.catalogue

FAULTS = [case for case in CASES if case.code]
HEALTHY = [case for case in CASES if not case.code]


def findings(report):
    return [found for check in report["checks"] for found in check["findings"]]


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_the_doctor_reports_the_fault_its_cause_and_its_fix(case, verdicts):
    code, report = verdicts[case.name]

    named = [found for found in findings(report) if found["code"] == case.code]
    assert named, findings(report)
    assert any(
        case.culprit in found["message"] + found["evidence"]
        and case.fix in found["fix"]
        and found["status"] == case.status
        for found in named
    ), named
    assert code == (1 if case.status in ("fail", "crash") else 0)
    assert report["ok"] == (code == 0)


@pytest.mark.parametrize("case", HEALTHY, ids=lambda case: case.name)
def test_the_doctor_reports_nothing_on_a_healthy_machine(case, verdicts):
    code, report = verdicts[case.name]

    assert code == 0
    assert not [found for found in findings(report) if found["status"] not in ("pass", "skip")]


def test_no_check_crashes(verdicts):
    crashed = [name for name, (_, report) in verdicts.items() if "check_crashed" in str(report)]

    assert crashed == [case.name for case in CASES if case.code == "check_crashed"]


def test_every_code_of_the_table_occurs_on_some_machine(verdicts):
    seen = {found["code"] for _, report in verdicts.values() for found in findings(report)}

    assert seen == set(CODES), set(CODES) - seen


def test_each_path_in_a_fix_is_quoted_as_one_word(verdicts, root):
    fixes = {found["fix"] for _, report in verdicts.values() for found in findings(report)}
    cut = [fix for fix in fixes for word in shlex.split(fix) if str(root.parent) in word and str(root) not in word]

    assert len([fix for fix in fixes if str(root) in "".join(shlex.split(fix))]) > 20
    assert not cut


def test_no_report_holds_a_password_or_a_traceback(verdicts):
    leaking = [name for name, (_, report) in verdicts.items() if "secret" in str(report) or "Traceback" in str(report)]

    assert not leaking


def test_the_catalogue_is_as_large_as_promised():
    assert len(FAULTS) >= 30
    assert len(HEALTHY) >= 8
