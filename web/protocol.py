"""HTTP as llhttp reads it, which costs less than a reader written in Python, and as bounded as that is.

llhttp leaves it to whoever uses it how much of a request it takes beside the body: a head without an end, or trailers
after a chunked body, would fill the memory. h11, uvicorn's other way, stops at 64 KiB, and so does this. Nor does
uvicorn mind how long a head takes: connections on which nothing comes would use up the door's files.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BOUND = 64 * 1024  # bytes without an end of the head, or a byte of the body, among them
SILENCE = 30.0  # seconds within which a head has to come whole


class Protocol(HttpToolsProtocol):
    """One connection."""

    _unfinished = 0  # bytes since then
    _late: asyncio.TimerHandle | None = None  # ends the connection while a head is waited for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._late = self.loop.call_later(SILENCE, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._be_in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; too much of what is no body ends the connection, with an answer where none has begun."""
        self._unfinished += len(data)
        between = self.cycle is None or self.cycle.response_complete
        if between and self._late is None:  # the next head begins, and uvicorn's own clock stops
            self._late = self.loop.call_later(SILENCE, self.transport.close)
        super().data_received(data)
        if self._unfinished > BOUND and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response("The head of the request is too large.")
            else:
                self.transport.close()

    def on_headers_complete(self) -> None:
        """Go on with a head that has come whole."""
        self._unfinished = 0
        self._be_in_time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on with a request that has come whole."""
        self._unfinished = 0
        super().on_message_complete()

    def _be_in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
