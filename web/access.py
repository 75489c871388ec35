"""What surrounds every request: its id, its line in the log, how long the door itself took, and safe headers."""

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

# For answers that are data. Where a route sets one of these itself, as the live page does, its own stands.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

STOPPING = "the door is being stopped, and could not wait for the end of this request: send it again"
FAULT = "a fault of Voicemill: report it with the lines of the door's log that have this X-Request-Id"

log = structlog.get_logger(__name__)


class Clock:
    """Seconds that a request spent elsewhere: on its way in, or waiting for its job."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.elsewhere = 0.0
        self._left = 0.0
        self._depth = 0  # whoever waits for a job listens for the client's leaving, too

    @contextmanager
    def away(self) -> Iterator[None]:
        """Count what happens in here as not the door's own time."""
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
        """Return the door's own time so far (seconds)."""
        return time.perf_counter() - self.began - self.elsewhere


class Access:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        clock = scope["voicemill.clock"] = Clock()
        request_id = scope["voicemill.id"] = uuid.uuid4().hex
        scope["voicemill.headers"] = {"X-Request-Id": request_id}  # of whatever is answered
        status, own, received = 499, 0.0, 0  # 499, as nginx has it: the client left before there was an answer

        async def receiving() -> Message:
            nonlocal received
            with clock.away():
                message = await receive()
            received += len(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status, own
            if message["type"] == "http.response.start":
                status, own = message["status"], clock.own()
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.update(scope["voicemill.headers"])
                headers["Server-Timing"] = f"own;dur={own * 1000:.2f}, away;dur={clock.elsewhere * 1000:.2f}"
            await send(message)

        try:
            await self.app(scope, receiving, sending)
        except ClientDisconnect:
            pass  # in the middle of its body
        except (Exception, asyncio.CancelledError) as error:
            problem = _problem_of(error, request_id)
            if status != 499:
                raise  # the server breaks off the answer that has begun
            await problems.answer(problem)(scope, receiving, sending)
        finally:
            log.info(
                "Request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(time.perf_counter() - clock.began, 3),
                own_ms=round(own * 1000, 1),
                bytes=received,
                caller=scope.get("voicemill.caller"),
                request=request_id,
            )


def _problem_of(error: BaseException, request_id: str) -> Problem:
    """Return what is told where a request came to no end: by a fault, or as the stopping server waits no longer."""
    if isinstance(error, asyncio.CancelledError):
        return Problem(503, "stopping", STOPPING, retry_after=problems.AGAIN)
    log.error("The door has a fault", request=request_id, exc_info=error)
    return Problem(500, "internal", FAULT)
