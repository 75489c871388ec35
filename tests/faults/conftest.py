"""The catalogue is examined by two doctors at a time, once for all tests; its table is printed at the end."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from catalogue import CASES, MODEL, packages_path

_rows = []


@pytest.fixture(scope="session")
def verdicts(tmp_path_factory):
    """The doctor's exit code and report on each machine of the catalogue, by its name."""
    root = tmp_path_factory.mktemp("machines")
    tiny = packages_path() / MODEL / "model"

    def examine(case):
        return case.name, case.make(root / case.name.replace(" ", "-")[:80], tiny).doctor()

    with ThreadPoolExecutor(2) as pool:
        found = dict(pool.map(examine, CASES))
    for case in CASES:
        findings = [each for check in found[case.name][1]["checks"] for each in check["findings"]]
        named = next((each for each in findings if each["code"] == case.code), None)
        shown = named or next((each for each in findings if each["status"] in ("fail", "crash")), {"code": "healthy"})
        _rows.append((case.name, found[case.name][0], shown["code"], shown.get("fix", "")))
    return found


def pytest_terminal_summary(terminalreporter):
    if _rows:
        terminalreporter.section("the fault catalogue: machine, exit code, finding, remedy")
        for name, code, finding, fix in _rows:
            terminalreporter.write_line(f"{name:<70} {code} {finding:<28} {fix[:90]}")
