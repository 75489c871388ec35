"""How much a client may send: requests per minute of a key, over all servers, and bytes of a body as they arrive."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redis import asyncio as aioredis
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicemill.store import keys, scripts
from voicemill.store.jobs import BLOCK
from web import problems
from web.problems import Problem

MINUTE = 60.0  # seconds
UPLOADS = ("/jobs", "/page/jobs", "/v1/audio/transcriptions", "/v1/audio/translations")  # their forms carry a file
SMALL = 1024 * 1024  # bytes of a JSON body there; `metadata` and `prompt` have limits of their own within it
TINY = 16 * 1024  # bytes of any other body, such as a key or a choice; callers without a key may send those
DIGITS = 20  # of a Content-Length, leading zeros included: Python refuses to parse thousands of digits
FRAME = 64 * 1024  # bytes of a multipart body beside the file
LINGER = 5.0  # seconds for which the rest of a rejected body is read


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the server waits."""

    body: float = 30.0  # seconds until more of a body must arrive
    slowest_body: int = 4096  # bytes per second that a body must average: a slower client only blocks a connection
    keep_alive: float = 15.0  # seconds after which a silent event stream sends a comment; proxies wait 30 and more
    event_block: int = BLOCK  # milliseconds for which an event stream waits in Redis at a time


class RateLimiter:
    """Counts the requests of each API key in Redis, so that all servers share one count.

    Args:
        per_minute: how many requests a key may make; 0: any number.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        # When each key may send again (monotonic seconds). Until then Redis isn't asked: an eager client costs little.
        self._free_at: dict[str, float] = {}
        self._script = scripts.load(Path(__file__).with_name("rate_limit.lua"))

    async def count(self, client: aioredis.Redis, name: str, request_id: str) -> None:
        """Count a request of the key `name`.

        Raises:
            Problem: `rate_limit_exceeded`: the key has used up its requests of the last minute.
            RedisError: Redis cannot be used.
        """
        if not self.per_minute:
            return
        wait = self._free_at.get(name, 0.0) - time.monotonic()
        if wait <= 0:
            answer = await self._script.run_async(client, [keys.requests(name)], self.per_minute, request_id)
            wait = int(answer) / 1000
        if wait > 0:
            self._free_at[name] = time.monotonic() + wait
            text = f"this key has used its {self.per_minute} requests of the last minute"
            raise Problem(429, "rate_limit_exceeded", text, retry_after=wait)


class BodyLimit:
    """ASGI middleware that rejects bodies that are too large, by their Content-Length and by the bytes that arrive.

    If the answer is ready before the whole body has arrived, the rest is still read for a while: closing the connection
    of a client that is sending resets it, and the client sees the reset instead of the answer.

    Args:
        app: what it wraps.
        upload: largest file of a form (bytes).
        timeouts: how slowly a body may arrive.
    """

    def __init__(self, app: ASGIApp, upload: int, timeouts: Timeouts) -> None:
        self.app = app
        self.upload = upload
        self.timeouts = timeouts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        limit = self._limit(scope["path"], headers)
        silence, slowest = self.timeouts.body, self.timeouts.slowest_body
        announced = headers.get(b"content-length", b"0")
        got, waited, more = 0, 0.0, announced != b"0" or b"transfer-encoding" in headers

        async def counted() -> Message:
            nonlocal got, waited, more
            if not more:
                return await receive()
            began = time.monotonic()
            try:
                async with asyncio.timeout(min(silence, silence + got / slowest - waited)):
                    message = await receive()
            except TimeoutError:
                text = f"the body arrives too slowly: {got} bytes in {waited + time.monotonic() - began:.0f} s"
                raise Problem(408, "request_timeout", text) from None
            waited += time.monotonic() - began
            got, more = got + len(message.get("body", b"")), message.get("more_body", False)
            if got > limit:
                raise _too_large(limit)
            return message

        async def lingering(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and more:
                await send({**message, "more_body": True})
                await _read_on(receive)
                message = {"type": "http.response.body"}
            await send(message)

        if not announced.isdigit() or len(announced) > DIGITS or int(announced) > limit:
            await problems.answer(_too_large(limit))(scope, receive, lingering)
        else:
            await self.app(scope, counted, lingering)

    def _limit(self, path: str, headers: dict[bytes, bytes]) -> int:
        if path.rstrip("/") not in UPLOADS:
            return TINY
        is_form = headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")
        return self.upload + FRAME if is_form else SMALL


async def _read_on(receive: Receive) -> None:
    """Read the rest of a body, for LINGER seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass


def _too_large(limit: int) -> Problem:
    return Problem(413, "source_too_large", f"the body has more than {limit} bytes", param="file")
