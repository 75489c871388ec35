"""A real decode worker that serves its metrics, and its own Redis, which a test may freeze."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import live
import pytest
import redis
from processes import becomes
from prometheus_client.parser import text_string_to_metric_families

from cli.embedded import valkey
from config.environment import STATE


class Worker:
    """A worker process, its log and its pages."""

    def __init__(self, log):
        self._log = log

    @property
    def lines(self):
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def logged(self, event):
        return next((line for line in self.lines if line["event"] == event), None)

    def get(self, path):
        """Return status, content type and body of a page."""
        url = self.logged("Metrics served")["url"].replace("/metrics", path)
        try:
            answer = urllib.request.urlopen(url, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()

    def samples(self):
        """Return the value of every series by its name and the values of its labels, sorted by label."""
        families = text_string_to_metric_families(self.get("/metrics")[2])
        found = [one for family in families for one in family.samples]
        return {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in found}

    def failing(self):
        """Return why the worker is not ready, by condition; {} if it is."""
        status, _, body = self.get("/readyz")
        found = {name: reason for name, reason in json.loads(body)["conditions"].items() if reason != "ok"}
        assert (status, json.loads(body)["ready"]) == ((503, False) if found else (200, True))
        return found


@contextmanager
def working(folder, url, **variables):
    """Run a worker of `actors.decode`, as in the Procfile."""
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dramatiq"), "actors.decode", "-p", "1", "-t", "2", "--skip-logging"],
            cwd=STATE.parent,
            env=os.environ | {"REDIS_URL": url, "LOG_FORMAT": "json"} | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        worker = Worker(log)
        assert becomes(lambda: worker.logged("Stage ready"), 60), log.read_text()
        yield worker
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    with valkey(tmp_path_factory.mktemp("own"), durable=False) as url:
        yield url


@pytest.fixture(scope="module")
def worker(own_redis, tmp_path_factory):
    with working(tmp_path_factory.mktemp("worker"), own_redis, METRICS_PORT="0") as running:
        yield running


@pytest.fixture
def backend(own_redis, monkeypatch):
    """Let the test use the worker's Redis."""
    monkeypatch.setenv("REDIS_URL", own_redis)
    yield
    live.close()


@pytest.fixture
def frozen(own_redis):
    """Return a context in which the worker's Redis neither answers nor refuses connections."""

    @contextmanager
    def freezing():
        with redis.Redis.from_url(own_redis) as client:
            server = client.info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server, signal.SIGCONT)

    return freezing
