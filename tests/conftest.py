"""What tests of every layer share: a real Redis and real workers, of the tests' own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import live
import pytest
import redis
from processes import children, end
from tables import LINES

from cli.embedded import valkey
from config import environment

CLONE = environment.STATE.parent
DRAMATIQ = str(Path(sys.executable).with_name("dramatiq"))


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory):
    """The URL of a real Valkey that lives as long as the test run."""
    with valkey(tmp_path_factory.mktemp("valkey"), durable=False) as url:
        yield url


@pytest.fixture
def redis_url(valkey_url, monkeypatch):
    """An empty Redis that the code under test reaches through `REDIS_URL`, as in production."""
    client = redis.Redis.from_url(valkey_url)
    client.flushall()
    monkeypatch.setenv("REDIS_URL", valkey_url)
    yield valkey_url
    live.close()
    client.close()


@pytest.fixture
def dramatiq(valkey_url):
    """Start `dramatiq …` in a group of its own and return the process, its output to be read."""
    started = []

    def start(*arguments, **variables):
        environment = os.environ | {"REDIS_URL": valkey_url, "WHISPER_DEVICE": "cpu", "LOG_FORMAT": "json"}
        environment |= {"WHISPER_MODEL": "bundled:tiny.en", "WHISPER_CPU_REPLICAS": "1"}
        process = subprocess.Popen(
            [DRAMATIQ, *arguments, "--skip-logging", "--processes", "1"],
            cwd=CLONE,
            env=environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        family = children(process.pid)
        process.kill()
        process.wait()
        process.stdout.close()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert end(family, timeout=30)  # else it takes the next test's message


@pytest.fixture
def until():
    """Read a process's output up to a line that holds a text, and return the lines that were read."""

    def read(process, text):
        seen = []
        for line in process.stdout:
            seen.append(line)
            if text in line:
                return seen
        raise AssertionError(f"{text!r} never came:\n{''.join(seen)}")

    return read


@pytest.fixture(autouse=True)
def _settings_of_the_test_alone(monkeypatch, tmp_path_factory):
    """No `.env` of the developer's and no Redis of theirs reaches a test."""
    from config import settings

    monkeypatch.setattr(environment, "ROOT", tmp_path_factory.getbasetemp())
    monkeypatch.setattr(environment, "REDIS_URL_FILE", tmp_path_factory.getbasetemp() / "no-redis.url")
    for name in settings.Settings.model_fields:
        if name.upper() in os.environ:
            monkeypatch.delenv(name.upper())
    settings.get.cache_clear()


def pytest_configure(config):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background inherits that it is ignored
    config.stash[LINES] = {}


# What the tests of a folder or file need, and what those that use a fixture need; others say so themselves.
NEEDS = {
    "chaos/": "processes",
    "end_to_end/": "processes",
    "faults/": "catalogue",
    "integration/decode/": "ffmpeg",
    "integration/delivery/test_tls.py": "redis",
    "integration/deploy/": "processes",
    "integration/doctor/": "processes",
    "integration/enrich/test_enrich_sdks.py": "sdk",
    "integration/enrich/test_enrich_storm.py": "processes",
    "integration/packaging/": "setup",
    "integration/test_client_commands.py": "processes",
    "integration/web/test_web_command.py": "processes",
    "integration/webhook/test_webhook_command.py": "processes",
    "unit/test_scripts.py": "setup",
}
FIXTURES = {"dramatiq": "processes", "workers": "processes", "browser": "browser"}


def pytest_itemcollected(item):
    path = item.path.relative_to(CLONE / "tests").as_posix()
    needs = {marker for place, marker in NEEDS.items() if path.startswith(place)}
    needs |= {marker for fixture, marker in FIXTURES.items() if fixture in item.fixturenames}
    for marker in needs:
        item.add_marker(marker)


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):  # one of several processes
        from schedule import place

        items.sort(key=lambda item: place(item.path.as_posix()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") == "loadfile":
        from schedule import LongestFirst

        return LongestFirst(config, log)
    return None


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # one of several processes: its tables go to the one that prints
        session.config.workeroutput["tables"] = session.config.stash[LINES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[LINES].update(getattr(node, "workeroutput", {}).get("tables", {}))


def pytest_terminal_summary(terminalreporter, config):
    for title, lines in config.stash[LINES].items():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)
