"""The application that a server runs: routes, what surrounds them, and what they share."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from starlette.middleware.cors import CORSMiddleware

from config.settings import Settings
from voicemill.store import connection
from web import api, keys, openai, page, problems
from web.access import Access
from web.arrivals import Arrivals
from web.limits import BodyLimit

CONNECTIONS = 8000  # to Redis, at most: one for each who follows a job; Redis itself takes 10,000 as it comes


def create_app(settings: Settings) -> FastAPI:
    """Return the application.

    `state.keys` are the hashes by name; where there are none the door is open, and must be served on loopback alone.
    `state.limited` tells until when keys have had their requests of the last minute (seconds, by the monotonic clock).
    `state.stopping` is set when the server has been told to stop.

    Raises:
        ValueError: `API_KEYS` is not what it takes.
    """
    app = FastAPI(
        title="Voicemill",
        summary="Voice messages in, transcripts and structured summaries out.",
        version="1",
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        responses=problems.RESPONSES,
    )
    app.state.settings = settings
    app.state.keys = keys.parse(settings.api_keys.get_secret_value() if settings.api_keys else "")
    app.state.open = not app.state.keys
    app.state.origins = frozenset(settings.api_cors_origins.replace(",", " ").split())
    app.state.limited = {}
    app.state.stopping = threading.Event()
    problems.install(app)
    app.include_router(openai.router)
    app.include_router(api.router)
    app.include_router(page.router)
    app.add_middleware(BodyLimit, upload=settings.api_max_bytes or settings.max_source_bytes)
    if app.state.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(app.state.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After", "X-Request-Id", "X-Job-Id"],
        )
    app.add_middleware(Access)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    url, options = connection.parameters(store.config)
    retry = Retry(connection.BACKOFF, connection.RETRIES)  # from_url has none of itself
    async with aioredis.Redis.from_url(url, max_connections=CONNECTIONS, retry=retry, **options) as app.state.redis:
        app.state.arrivals = Arrivals(app.state.redis)
        yield
        await app.state.arrivals.close()
