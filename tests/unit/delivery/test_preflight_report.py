"""What the log of a worker without a fit GPU says to paste into a shell."""

import shlex

import pytest
from dramatiq.brokers.stub import StubBroker
from structlog.testing import capture_logs

from actors import preflight
from pipeline.doctor.findings import finding
from pipeline.doctor.report import Check, Report


@pytest.mark.parametrize("python", ["/opt/voicemill/.venv/bin/python", "/x/o'brien's clone; $(id)/.venv/bin/python"])
def test_the_command_for_the_full_report_names_the_python_by_one_word(monkeypatch, python):
    report = Report(
        "cuda",
        (
            Check(
                "cuda",
                (finding("library_passed_over"), finding("library_missing")),
            ),
        ),
    )
    monkeypatch.setattr("pipeline.doctor.diagnose", lambda *_, **__: report)
    monkeypatch.setattr("sys.executable", python)

    def work():
        pass

    with capture_logs() as logs:
        preflight.declare(work, StubBroker(), "auto", actor_name="work")

    (warned,) = [each for each in logs if "full_report" in each]
    assert shlex.split(warned["full_report"]) == [python, "-m", "pipeline", "doctor", "--device", "cuda"]
    assert ("'" in warned["full_report"]) == ("'" in python)
