"""HTTP as llhttp reads it, which costs less than a reader written in Python, and as bounded as that is.

llhttp leaves it to whoever uses it how much of a request it takes beside the body: a head without an end, or trailers
after a chunked body, would fill the memory. h11, uvicorn's other way, stops at 64 KiB, and so does this.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BOUND = 64 * 1024  # bytes without an end of the head, or a byte of the body, among them


class Protocol(HttpToolsProtocol):
    """One connection."""

    _unfinished = 0  # bytes since then

    def data_received(self, data: bytes) -> None:
        """Take what came; too much of what is no body ends the connection, with an answer where none has begun."""
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > BOUND and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response("The head of the request is too large.")
            else:
                self.transport.close()

    def on_headers_complete(self) -> None:
        """Go on with a head that has come whole."""
        self._unfinished = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on with a request that has come whole."""
        self._unfinished = 0
        super().on_message_complete()
