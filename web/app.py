"""The application that a server runs: its routes, its middleware and its shared state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from starlette.middleware.cors import CORSMiddleware

from config.settings import Settings
from voicemill import Client
from voicemill.store import connection
from web import api, auth, dashboard, openai, problems
from web.access import AccessLog
from web.arrivals import Arrivals
from web.limits import BodyLimit, RateLimiter, Timeouts
from web.state import State

CONNECTIONS = 8000  # to Redis: each client that follows a job holds one; Redis accepts 10,000 by default


def create_app(settings: Settings, client: Client, *, timeouts: Timeouts | None = None) -> FastAPI:
    """Return the application.

    Without `API_KEYS` it accepts every request that names loopback, and must be served on loopback alone.

    Args:
        settings: those of the HTTP API: `API_*`, `MAX_SOURCE_BYTES`, `WHISPER_MODEL`.
        client: of the Redis that jobs are sent to. Whoever created it closes it.
        timeouts: None: the defaults.

    Raises:
        ValueError: an entry of `API_KEYS` is malformed.
    """
    chosen = timeouts or Timeouts()
    app = FastAPI(
        title="Voicemill",
        summary="Voice messages in, transcripts and structured summaries out.",
        version="1",
        docs_url=None,  # FastAPI's pages load their scripts from another site
        redoc_url=None,
        lifespan=_lifespan,
        responses=problems.RESPONSES,
    )
    state = app.state.voicemill = State(
        settings=settings,
        client=client,
        keys=auth.parse(settings.api_keys.get_secret_value() if settings.api_keys else ""),
        origins=frozenset(settings.api_cors_origins.replace(",", " ").split()),
        timeouts=chosen,
        limiter=RateLimiter(settings.api_requests_per_minute),
    )
    problems.install(app)
    app.include_router(openai.router)
    app.include_router(api.router)
    app.include_router(dashboard.router)
    app.add_middleware(BodyLimit, upload=settings.api_max_bytes or settings.max_source_bytes, timeouts=chosen)
    if state.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(state.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After", "X-Request-Id", "X-Job-Id"],
        )
    app.add_middleware(AccessLog)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: State = app.state.voicemill
    url, options = connection.parameters(state.client.config)
    retry = Retry(connection.BACKOFF, connection.RETRIES)  # from_url sets none by itself
    async with aioredis.Redis.from_url(url, max_connections=CONNECTIONS, retry=retry, **options) as state.redis:
        state.arrivals = Arrivals(state.redis)
        yield
        await state.arrivals.close()
