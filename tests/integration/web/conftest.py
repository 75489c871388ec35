"""A real door before a real Redis, and what stands in for the stages."""

import pytest
import stub_engine
from door import ENTRY, Door, served
from live import store

from config.settings import Settings
from web.app import create_app


@pytest.fixture
def door(redis_url, monkeypatch):
    """Open a door with these settings; it is closed after the test."""
    closing = []

    def opened(**settings):
        chosen = {"api_keys": ENTRY, "api_requests_per_minute": 0} | settings
        app = create_app(Settings(**chosen))
        manager = served(app)
        closing.append(manager)
        return Door(manager.__enter__(), app)

    yield opened
    for manager in closing:
        manager.__exit__(None, None, None)


@pytest.fixture
def engine(redis_url):
    """What ends jobs when it is told to, in the stages' place: `engine()` ends the next one and returns its id."""

    def end_next():
        taken = None
        while taken is None:
            taken = stub_engine.take(store.redis, block=True)
        stub_engine.end(taken[0])
        return taken[0]

    return end_next
