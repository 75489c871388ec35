"""HTTP parsed by llhttp, which costs less than a parser written in Python, with limits that uvicorn leaves out.

llhttp does not limit a request beside its body: a head without an end, or endless trailers after a chunked body, would
fill the memory. h11, uvicorn's other parser, stops at 64 KiB, and so does this one. uvicorn does not limit how long a
head takes, either: idle connections would use up the server's file descriptors.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BOUND = 64 * 1024  # bytes without the end of a head, or without a byte of a body


class Protocol(HttpToolsProtocol):
    """One connection."""

    silence = 30.0  # seconds within which a head must have arrived
    _unfinished = 0  # bytes since the last end of a head or byte of a body
    _deadline: asyncio.TimerHandle | None = None  # ends the connection while a head is awaited

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Start to wait for a head."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.silence, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle received bytes; too many outside of a body end the connection, with an answer if none has begun."""
        self._unfinished += len(data)
        between = self.cycle is None or self.cycle.response_complete
        if between and self._deadline is None:  # the next head begins, and uvicorn's own keep-alive timer stops
            self._deadline = self.loop.call_later(self.silence, self.transport.close)
        super().data_received(data)
        if self._unfinished > BOUND and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response("The head of the request is too large.")
            else:
                self.transport.close()

    def on_headers_complete(self) -> None:
        """Handle the end of a head."""
        self._unfinished = 0
        self._cancel_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handle a piece of a body."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handle the end of a request."""
        self._unfinished = 0
        super().on_message_complete()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
