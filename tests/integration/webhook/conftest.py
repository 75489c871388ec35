"""Jobs that end, workers that deliver their events, and receivers of these."""

import os
import subprocess
import sys
from pathlib import Path

import live
import pytest
from live import jobs, outbox
from processes import becomes
from receiver import SECRET, receiving

from config.environment import STATE
from config.settings import Settings
from pipeline.webhook.delivery import Deliverer
from voicemill.options import Options
from voicemill.store.jobs import receiver_of

OPEN = {"webhook_secret": SECRET, "webhook_allow_http": True, "webhook_allow_private": True, "webhook_backoff": "0.01"}


@pytest.fixture
def receiver():
    with receiving() as server:
        yield server


@pytest.fixture
def trap():
    """A receiver that must not be reached."""
    with receiving() as server:
        yield server
    assert (server.got, server.forged) == ([], 0)


@pytest.fixture
def job(redis_url, receiver):
    """Create a job; its events go to the receiver unless a URL is given."""

    def make(name, url="", **options):
        jobs.create(name, "voice.ogg", Options(callback_url=url or receiver.url(), **options))
        return name

    return make


@pytest.fixture
def done(job):
    """Create a job that is done, after it was `transcribed`."""

    def make(name, url=""):
        job(name, url)
        jobs.finish(name, "transcribe", {"transcript": {"text": f"The words of {name}."}})
        jobs.finish(name, "enrich", {"enrichment_skipped": "no key"})
        return name

    return make


class Post:
    """Delivers in this process: `run()` delivers what is due for a receiver, and returns the number of attempts."""

    def __init__(self, **settings):
        self.deliverer = Deliverer(Settings(**OPEN | settings), live.current())

    def run(self, receiver, most=1000):
        for count in range(most):
            order = self.deliverer.take(receiver)
            if order.job_id is None:
                return count
            self.deliverer.deliver(order.job_id, receiver)
        return most

    def until(self, receiver, condition, timeout=30):
        """Run until the condition holds, waiting for attempts that are due later."""
        assert becomes(lambda: self.run(receiver) >= 0 and condition(), timeout)


@pytest.fixture
def post():
    return Post


@pytest.fixture
def name(receiver):
    """The receiver's name in the outbox."""
    return receiver_of(receiver.url())


class Workers:
    """Real worker processes as in the Procfile, but with shorter intervals."""

    def __init__(self, folder, url):
        self.folder, self.url, self.processes = folder, url, []

    def start(self, **variables):
        module = self.folder / "webhook_worker.py"
        module.write_text(
            f"import sys\nsys.path.insert(0, {str(STATE.parent)!r})\n"
            "from pipeline.webhook import delivery\ndelivery.GRACE = 0.5\n"
            "from actors import webhook\nwebhook.INTERVAL = 0.5\n"
        )
        settings = {name.upper(): str(value) for name, value in OPEN.items()} | {"LOG_FORMAT": "json"}
        before = len(live.workers.alive())
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("dramatiq"), module.stem, "-p", "1", "-t", "8", "--skip-logging"],
                cwd=self.folder,
                env=os.environ | {"REDIS_URL": self.url, "PYTHONPATH": str(self.folder)} | settings | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        assert becomes(lambda: len(live.workers.alive()) > before, 60), self.log()
        return process

    def log(self):
        return (self.folder / "log").read_text()

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def workers(tmp_path, redis_url):
    running = Workers(tmp_path, redis_url)
    yield running
    running.stop()


@pytest.fixture
def undelivered():
    """Return how many jobs have pending events."""
    return lambda: sum(receiver.undelivered for receiver in outbox.receivers())
