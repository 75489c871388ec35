"""The drill in short: `make chaos` runs it at length."""

import subprocess
import sys
from pathlib import Path


def test_no_job_is_lost_doubled_or_left_behind_whatever_dies():
    command = [sys.executable, "-m", "tests.chaos", "--jobs", "24", "--seed", "1", "--faults", "5", "--stopped", "6"]

    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "PASS: 24 jobs done" in ran.stdout
    assert "faults: 1 cut, 1 kill, 1 redis, 1 stop, 1 term" in ran.stdout
