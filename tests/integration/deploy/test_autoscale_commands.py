"""deploy/autoscale/autoscale.py with commands of the operator's own."""

import json
import shlex
import subprocess
import sys

import pytest
from processes import becomes

from config.environment import ROOT

SCRIPT = [sys.executable, str(ROOT / "deploy" / "autoscale" / "autoscale.py"), "--stage", "transcribe"]
SAY = "import sys; open(sys.argv[1], 'a').write(' '.join(sys.argv[2:]) + '\\n')"


def shown(oldest, workers=()):
    depth = {"waiting": 7, "in_progress": 0, "delayed": 0, "dead": 0}
    return json.dumps({"stages": {"transcribe": {"workers": workers, "oldest_waiting": oldest, "depth": depth}}})


@pytest.fixture
def scaler(tmp_path):
    """An autoscaler that looks every 50 ms; what it does is in `done`, one line each."""
    done, status = tmp_path / "done", tmp_path / "status.json"
    done.touch()
    started = []

    def start(*arguments):
        say = shlex.join([sys.executable, "-c", SAY, str(done)])
        numbers = ("--every", "0.05", "--settle", "0", "--calm", "0", "--checks", "1", "--most", "2", "--least", "1")
        commands = ("--start", f"{say} start {{n}}", "--stop", f"{say} stop {{n}}", "--status", f"cat {status}")
        pipe = subprocess.PIPE
        process = subprocess.Popen([*SCRIPT, *numbers, *commands, *arguments], stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        return process

    yield start, status, lambda: done.read_text().split("\n")[:-1]
    for process in started:
        process.kill()
        process.communicate()


def test_a_backlog_and_its_end_are_answered_with_the_operators_commands_and_its_own_end_with_none(scaler):
    start, status, done = scaler
    status.write_text(shown(oldest=60.0))
    process = start()

    assert becomes(lambda: done() == ["start 1", "start 2"], 30)
    status.write_text("Redis at redis://127.0.0.1:1/0 cannot be used")
    assert "the status cannot be read, nothing is changed" in next(line for line in process.stdout if "cannot" in line)
    status.write_text(shown(oldest=None))
    assert becomes(lambda: len(done()) > 2, 30)
    process.terminate()

    assert process.wait(30) == 0
    assert done() == ["start 1", "start 2", "stop 2"]


def test_workers_that_are_there_already_are_counted_and_a_command_that_fails_changes_nothing(scaler):
    start, status, done = scaler
    status.write_text(shown(oldest=60.0, workers=[{}]))
    process = start("--start", "false {n}")

    said = [line for line, _ in zip(process.stdout, range(2), strict=False)]

    assert said == ["autoscale | `false 2` ended with exit code 1; retried\n"] * 2
    assert done() == []


def test_a_start_without_a_stop_is_refused():
    ran = subprocess.run([*SCRIPT, "--start", "true"], capture_output=True, text=True, timeout=30)

    assert ran.returncode == 2
    assert "--start and --stop belong together" in ran.stderr
