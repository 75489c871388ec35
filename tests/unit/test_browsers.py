"""What becomes of the dashboard's tests without a browser."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
STUB = "#!/bin/sh\necho 'requires the chromium snap to be installed' >&2; exit 1\n"


@pytest.fixture
def suite(tmp_path):
    """Run a copy of the suite with two tests, on a PATH where there is nothing but a stub for a browser."""
    modules = ("live.py", "tables.py", "browsers.py", "processes.py", "schedule.py", "hearing.py")
    for name in ("conftest.py", *modules, "end_to_end/conftest.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(TESTS / name, tmp_path / name)
    for name in ("test_dashboard", "test_other"):
        (tmp_path / "end_to_end" / f"{name}.py").write_text(f"def {name}():\n    pass\n")
    (tmp_path / "chromium-browser").write_text(STUB)
    (tmp_path / "chromium-browser").chmod(0o755)

    def run(**variables):
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "-p", "xdist", "-n", "1", "--rootdir", tmp_path, tmp_path],
            env=environment
            | {"PATH": str(tmp_path), "PYTHONPATH": f"{TESTS.parent}:{tmp_path}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            | variables,
            capture_output=True,
            text=True,
        ).stdout

    return run


def test_without_a_browser_the_closing_lines_say_what_did_not_run_and_why(suite):
    said = suite()

    assert "1 passed" in said
    assert "::test_dashboard" not in said
    assert "test_dashboard.py) did not run: no browser is installed" in said


def test_in_ci_a_missing_browser_leaves_nothing_out(suite):
    said = suite(CI="true")

    assert "2 passed" in said
    assert "did not run" not in said
