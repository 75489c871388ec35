"""`up`, in a clone of its own: what a developer leaves running all day."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from hearing import SAMPLE, chosen_arithmetic, word_error_rate
from processes import becomes, children, command, end

from config.environment import STATE

CLONE = STATE.parent


class Up:
    """A running `voicemill up`, with what it printed."""

    def __init__(self, clone, **variables):
        self.clone = clone
        self.lines = []
        self.more = threading.Condition()
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= chosen_arithmetic()
        self.environment = environment | {
            "WHISPER_DEVICE": "cpu",
            "WHISPER_MODEL": "bundled:tiny.en",
            "WHISPER_CPU_REPLICAS": "1",
            "SHUTDOWN_TIMEOUT": "5",
        }
        self.environment |= variables
        self.process = self.start("up", stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def start(self, *arguments, stderr=subprocess.PIPE):
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *map(str, arguments)],
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def read(self):
        for line in self.process.stdout:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()
        with self.more:
            self.more.notify_all()

    def until(self, text, count=1):
        with self.more:
            said = self.more.wait_for(lambda: sum(text in line for line in self.lines) >= count, timeout=60)
        assert said, f"{text!r} was not said {count} times:\n{''.join(self.lines)}"

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


@pytest.fixture
def clone(tmp_path):
    for name in ("actors", "cli", "config", "pipeline", "samples", "voicemill", "web"):
        shutil.copytree(CLONE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CLONE / "Procfile", tmp_path)
    return tmp_path


@pytest.fixture
def up(clone):
    started = []

    def start(ready=4, **variables):
        started.append(Up(clone, **variables))
        started[-1].until("Stage ready", ready)
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_up_serves_the_clone_restarts_what_dies_and_leaves_jobs_but_no_process(up, clone):
    first = up()
    sample = clone / "samples" / "voice-message.ogg"
    assert first.lines[0].startswith("export REDIS_URL=redis://127.0.0.1:")

    code, out, err = first.run("submit", "--upload", sample, "--language", "en", "--wait")
    assert code == 0, err
    assert word_error_rate(out, SAMPLE) < 0.3

    code, _, err = first.run("up")
    assert (code, "runs in this clone already" in err) == (1, True)

    stage = next(pid for pid in children(first.process.pid) if "actors.enrich" in command(pid))
    os.kill(stage, signal.SIGKILL)
    first.until("Stage ready", 5)
    job_id = first.run("submit", "--upload", sample, "--language", "en")[1].strip()
    assert first.run("result", job_id, "--wait", 30)[0] == 0

    redis = next(pid for pid in children(first.process.pid) if "valkey-server" in command(pid))
    os.kill(redis, signal.SIGKILL)
    first.until("The embedded Redis ended with exit code -9; it is restarted")
    assert becomes(lambda: first.run("result", job_id)[0] == 0, timeout=60)
    assert first.run("submit", "--upload", sample, "--language", "en", "--wait")[0] == 0

    started = children(first.process.pid)
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(timeout=60) == 0
    assert end(started)
    assert not (clone / ".voicemill" / "redis.url").exists()

    export = first.lines[0]
    second = up(REDIS_URL=export.split()[1].removeprefix("REDIS_URL="))  # the shell's, from the first one's line
    assert second.lines[0] == export
    assert second.run("result", job_id)[0] == 0


def test_a_redis_that_refuses_is_said_to_come_from_redis_url(up):
    refused = up(ready=0, REDIS_URL="redis://:hunter2@127.0.0.1:1/0")

    refused.until("Unset it to use an embedded Redis.")
    assert refused.lines[0].startswith("REDIS_URL (environment or .env) names redis://")
    assert "hunter2" not in refused.lines[0]


def test_a_killed_up_takes_everything_with_it_and_the_next_one_starts(up):
    first = up()
    started = children(first.process.pid)

    first.process.kill()

    assert end(started)
    code, _, err = first.run("result", "any")
    assert (code, "cannot be used" in err) == (3, True)
    up()


def test_an_up_that_nobody_reads_any_more_stops_in_order_and_leaves_no_process(clone):
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "up", "--stages", "decode", "webhook"],
        cwd=clone,
        env={"PATH": os.environ["PATH"], "WHISPER_MODEL": "bundled:tiny.en", "SHUTDOWN_TIMEOUT": "5"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with process.stdout as lines:
            for _ in range(2):
                next(line for line in lines if "Stage ready" in line)
        started = children(process.pid)
        redis = next(pid for pid in started if "valkey-server" in command(pid))
        os.kill(redis, signal.SIGKILL)  # which is said, and so are the stages' complaints
        assert becomes(lambda: any("valkey-server" in command(pid) for pid in children(process.pid) if pid != redis))
        started += children(process.pid)

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=60) == 0
        assert end(started)
    finally:
        process.kill()
        process.wait()


def test_what_is_no_address_of_redis_ends_it_at_once():
    environment = os.environ | {"REDIS_URL": "foo"}

    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "up"], cwd=CLONE, env=environment, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 2
    assert ran.stderr.startswith("REDIS_URL is a value that is not shown: takes redis://")


def test_a_clone_that_it_may_not_write_to_ends_it_in_one_line(clone):
    (clone / ".voicemill" / "up.lock").mkdir(parents=True)  # even root may not write to it

    environment = {"PATH": os.environ["PATH"], "WHISPER_MODEL": "bundled:tiny.en"}
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "up"], cwd=clone, env=environment, capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 1
    assert ran.stderr == f"{clone}/.voicemill/up.lock: Is a directory\n"
