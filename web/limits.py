"""How much may come in: requests a minute of a key over all processes, and bytes of a body, counted as they come."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, cast

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from voicemill.store import keys
from web import problems
from web.problems import Problem

MINUTE = 60.0  # seconds
UPLOADS = ("/jobs", "/page/jobs", "/v1/audio/transcriptions", "/v1/audio/translations")  # where a form brings a file
SMALL = 1024 * 1024  # bytes of a body of JSON there; `metadata` and `prompt` have limits of their own within it
TINY = 16 * 1024  # bytes of any other body: a key, a choice; whoever has no key may send them
DIGITS = 20  # of a length, zeros in front included: Python reads no number of thousands
FRAME = 64 * 1024  # bytes of a multipart body beside the file
SILENCE = 30.0  # seconds within which more of a body has to come
SLOWEST = 4096  # bytes a second that a body comes with, all in all: who sends less only holds a place
LINGER = 5.0  # seconds that the rest of a refused body is read for: who still sends would not see the answer otherwise

# The times of a key's requests in the last minute, in a sorted set. Returns 0, or the milliseconds until there is room.
_ADMIT = """
local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - 60000000)
local used = redis.call("ZCARD", KEYS[1])
if used >= tonumber(ARGV[1]) then
    local oldest = redis.call("ZRANGE", KEYS[1], used - ARGV[1], used - ARGV[1], "WITHSCORES")
    return math.max(1, math.ceil((oldest[2] + 60000000 - now) / 1000))
end
redis.call("ZADD", KEYS[1], now, ARGV[2])
redis.call("PEXPIRE", KEYS[1], 60000)
return 0
"""


async def demand_rate(request: Request, name: str) -> None:
    """Count a request of the key `name`.

    Raises:
        Problem: `rate_limit_exceeded`: it has had `API_REQUESTS_PER_MINUTE` in the last minute.
    """
    limit = request.app.state.settings.api_requests_per_minute
    if not limit:
        return
    # Once it is known until when there is no room Redis has not to be asked again: who asks too often costs less.
    until: dict[str, float] = request.app.state.limited
    wait = until.get(name, 0.0) - time.monotonic()
    if wait <= 0:
        client = request.app.state.redis
        key = f"{keys.NAMESPACE}:web:requests:{name}"
        wait = await cast("Any", client.eval(_ADMIT, 1, key, limit, request.scope["voicemill.id"])) / 1000
    if wait > 0:
        until[name] = time.monotonic() + wait
        text = f"this key has had its {limit} requests of the last minute"
        raise Problem(429, "rate_limit_exceeded", text, retry_after=wait)


class BodyLimit:
    """ASGI middleware that takes no body larger than allowed: by what it says of itself first, then by its bytes.

    Whatever is answered before a body has come whole, the rest of it is still read for a while: a connection that is
    closed while a client sends is reset, and the client sees that instead of the answer.
    """

    def __init__(self, app: ASGIApp, upload: int) -> None:
        self.app = app
        self.upload = upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        limit = self._limit(scope["path"], headers)
        said = headers.get(b"content-length", b"0")
        got, waited, more = 0, 0.0, said != b"0" or b"transfer-encoding" in headers

        async def counted() -> Message:
            nonlocal got, waited, more
            if not more:
                return await receive()
            began = time.monotonic()
            try:
                async with asyncio.timeout(min(SILENCE, SILENCE + got / SLOWEST - waited)):
                    message = await receive()
            except TimeoutError:
                text = f"the body came too slowly: {got} bytes, and then nothing that would have been in time"
                raise Problem(408, "request_timeout", text) from None
            waited += time.monotonic() - began
            got, more = got + len(message.get("body", b"")), message.get("more_body", False)
            if got > limit:
                raise _too_large(limit)
            return message

        async def unhurried(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and more:
                await send({**message, "more_body": True})
                await _read_on(receive)
                message = {"type": "http.response.body"}
            await send(message)

        if not said.isdigit() or len(said) > DIGITS or int(said) > limit:
            await problems.answer(_too_large(limit))(scope, receive, unhurried)
        else:
            await self.app(scope, counted, unhurried)

    def _limit(self, path: str, headers: dict[bytes, bytes]) -> int:
        if path.rstrip("/") not in UPLOADS:
            return TINY
        is_form = headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")
        return self.upload + FRAME if is_form else SMALL


async def _read_on(receive: Receive) -> None:
    """Read what is left of a body, for LINGER seconds at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass


def _too_large(limit: int) -> Problem:
    return Problem(413, "source_too_large", f"the body has more than {limit} bytes", param="file")
