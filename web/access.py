"""What surrounds every request: its id, its log line, how long the server itself took, and protective headers."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web import problems
from web.problems import Problem

# For answers that are data. A route that sets one of these headers itself, as the dashboard does, keeps its own value.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

STOPPING = "the server is shutting down and could not finish this request: send it again"
FAULT = "this is a bug in Voicemill: report it with the log lines that have this X-Request-Id"
CLIENT_LEFT = 499  # the status that nginx logs if the client disconnects before there is an answer

log = structlog.get_logger(__name__)


class RequestTimer:
    """How long a request took, and how much of that it spent receiving its body or waiting for its job (seconds)."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.elsewhere = 0.0
        self._left = 0.0
        self._depth = 0  # while a request waits for its job it listens for the client's disconnect, too

    @contextmanager
    def away(self) -> Iterator[None]:
        """Exclude the time of this block from the server's own time."""
        if self._depth == 0:
            self._left = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.elsewhere += time.perf_counter() - self._left

    def own(self) -> float:
        """Return the server's own time so far (seconds)."""
        return time.perf_counter() - self.began - self.elsewhere


class AccessLog:
    """ASGI middleware around everything else: identifies, times and logs requests, and answers unexpected errors."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        timer = scope["voicemill.timer"] = RequestTimer()
        request_id = scope["voicemill.id"] = uuid.uuid4().hex
        scope["voicemill.headers"] = {"X-Request-Id": request_id}  # of whatever is answered
        status, own, received = CLIENT_LEFT, 0.0, 0

        async def receiving() -> Message:
            nonlocal received
            with timer.away():
                message = await receive()
            received += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status, own
            if message["type"] == "http.response.start":
                status, own = message["status"], timer.own()
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.update(scope["voicemill.headers"])
                headers["Server-Timing"] = f"own;dur={own * 1000:.2f}, away;dur={timer.elsewhere * 1000:.2f}"
            await send(message)

        try:
            await self.app(scope, receiving, sending)
        except ClientDisconnect:
            pass  # in the middle of its body
        except (Exception, asyncio.CancelledError) as error:
            problem = _problem_of(error, request_id)
            if status != CLIENT_LEFT:
                raise  # the answer has begun: the server aborts it
            await problems.answer(problem)(scope, receiving, sending)
        finally:
            log.info(
                "Request handled",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(time.perf_counter() - timer.began, 3),
                own_ms=round(own * 1000, 1),
                bytes=received,
                caller=scope.get("voicemill.caller"),
                request=request_id,
            )


def _problem_of(error: BaseException, request_id: str) -> Problem:
    """Return the answer to a request that failed by a bug, or that a stopping server cancelled."""
    if isinstance(error, asyncio.CancelledError):
        return Problem(503, "stopping", STOPPING, retry_after=problems.RETRY_AFTER)
    log.error("Request failed", request=request_id, exc_info=error)
    return Problem(500, "internal", FAULT)
