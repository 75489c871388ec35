"""What the parts of the application share. It belongs to one application; nothing here is global."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from redis import asyncio as aioredis
from starlette.requests import HTTPConnection

from config.settings import Settings
from voicemill import Client
from web.arrivals import Arrivals
from web.limits import RateLimiter, Timeouts


@dataclass(slots=True)
class State:
    """The shared state of one application."""

    settings: Settings
    client: Client
    keys: Mapping[str, bytes]  # hashes of the API keys by name; empty: only loopback may call
    origins: frozenset[str]  # whose pages may call
    timeouts: Timeouts
    limiter: RateLimiter
    stopping: threading.Event = field(default_factory=threading.Event)  # set when the server begins to shut down
    redis: aioredis.Redis = field(init=False)  # opened when the server starts
    arrivals: Arrivals = field(init=False)  # the same

    @property
    def open(self) -> bool:
        """Whether no key is needed."""
        return not self.keys


def state_of(connection: HTTPConnection) -> State:
    """Return the state of the application that handles a request."""
    return cast("State", connection.app.state.voicemill)
