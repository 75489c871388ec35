"""Real `dramatiq` worker processes on stages of the tests' own, with the runner and middleware of every stage."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from config.environment import STATE

CLONE = STATE.parent

PROLOGUE = """
import os, pathlib, signal, sys, time
sys.path.insert(0, {clone!r})
import dramatiq, redis
from config import environment
environment.ROOT = pathlib.Path({folder!r})  # where `.env` lies
from actors import worker
from actors.heartbeat import Heartbeat
from pipeline.stage import Result
from voicemill.errors import ErrorCode, JobError
WORKER = worker.start({stage!r})
BROKER, store, jobs = WORKER.broker, WORKER.store, WORKER.store.jobs
HEARTBEAT = next(each for each in BROKER.middleware if isinstance(each, Heartbeat))
"""


class Workers:
    """Starts workers and keeps what they print."""

    def __init__(self, folder, url):
        self.folder, self.url, self.processes, self.lines = folder, url, [], []
        self.more = threading.Condition()
        self.readers = []

    def start(self, body, stage="decode", *, threads=2, ready=True, **variables):
        """Start a worker whose stage `body` declares on WORKER; return its master process."""
        module = f"delivery_{len(self.processes)}"
        text = PROLOGUE.format(clone=str(CLONE), folder=str(self.folder), stage=stage) + textwrap.dedent(body)
        (self.folder / f"{module}.py").write_text(text)
        return self.run(module, self.folder, threads, variables, ready=ready)

    def start_stage(self, stage, *, threads=2, ready=True, **variables):
        """Start the worker of a stage as the Procfile does; return its master process."""
        return self.run(f"actors.{stage}", CLONE, threads, variables, ready=ready)

    def run(self, module, folder, threads, variables, *, ready):
        environment = os.environ | {"REDIS_URL": self.url, "PYTHONPATH": str(folder), "LOG_FORMAT": "json"}
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dramatiq"), module, "-p", "1", "-t", str(threads), "--skip-logging"],
            cwd=folder,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        before = len(self.matching("Stage ready"))
        self.readers.append(threading.Thread(target=self.read, args=(process,)))
        self.readers[-1].start()
        if ready:
            self.until("Stage ready", before + 1)
        return process

    def read(self, process):
        for line in process.stdout:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()

    def matching(self, text):
        return [line for line in self.lines if text in line]

    def until(self, text, count=1, timeout=60):
        """Wait until `count` lines hold the text."""
        with self.more:
            found = self.more.wait_for(lambda: len(self.matching(text)) >= count, timeout)
        assert found, f"no {count} lines with {text!r}:\n" + "".join(self.lines[-40:])

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader in self.readers:
            reader.join()
        for process in self.processes:
            process.stdout.close()


@pytest.fixture
def workers(tmp_path, redis_url):
    running = Workers(tmp_path, redis_url)
    yield running
    running.stop()
