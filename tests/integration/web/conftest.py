"""A real server with a real Redis, and a stub of the stages."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import stub_engine
from http_api import ENTRY, HttpApi, served
from live import current

from config.settings import Settings
from voicemill import Client, ClientConfig
from web.app import create_app
from web.protocol import Protocol


@pytest.fixture
def serve(redis_url):
    """Start a server, which is stopped after the test, and return its `HttpApi`.

    Settings are those of the HTTP API; `config` has fields of the client's configuration.
    """
    with ExitStack() as stack:

        def start(*, config=None, client=None, timeouts=None, protocol=Protocol, **settings):
            configured = replace(ClientConfig.from_environment(), **(config or {}))
            chosen = {"api_keys": ENTRY, "api_requests_per_minute": 0} | settings
            used = client or stack.enter_context(Client(config=configured))
            app = create_app(Settings(**chosen), used, timeouts=timeouts)
            return HttpApi(stack.enter_context(served(app, protocol)))

        yield start


@pytest.fixture
def engine(redis_url):
    """A stub of the stages: `engine()` finishes the next job and returns its id."""

    def finish_next():
        taken = None
        while taken is None:
            taken = stub_engine.take(current(), block=True)
        stub_engine.finish(current(), taken[0])
        return taken[0]

    return finish_next
