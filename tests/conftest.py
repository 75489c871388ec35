"""What tests of every layer share: a real Redis, of the tests' own."""

import os

import pytest
import redis
from tables import LINES

from config import environment
from pipeline import connection
from pipeline.commands.embedded import valkey


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
    monkeypatch.setattr(connection, "_clients", {})
    yield valkey_url
    for used in connection._clients.values():
        used.close()
    client.close()


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
    config.stash[LINES] = {}


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
