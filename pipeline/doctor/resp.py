"""A minimal client of Redis's protocol (RESP2), with the standard library alone."""

from __future__ import annotations

import socket
import ssl
import time
import weakref
from contextlib import suppress
from typing import Any, Optional

LONGEST = 1 << 20  # bytes of a reply; the longest that we request, INFO, has about 10 KB
DEEPEST = 4  # levels of nested lists

_open: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


class ErrorReply(Exception):
    """The server replied with an error; its text is the message."""


class ProtocolError(Exception):
    """The reply is not RESP."""


def stop() -> None:
    """Shut down every connection, so that no call keeps waiting for a reply."""
    for each in list(_open):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Connection:
    """A connection to a server that may be slow, silent or hostile; no call takes longer than the time limits.

    Args:
        host: name or IP address, or the path of a Unix socket.
        port: the TCP port.
        tls: the context of an encrypted connection; None: plain text.
        timeout: limit for each reply, in seconds.
        total: limit for the whole connection, in seconds.

    Raises:
        OSError: the connection failed; an ssl.SSLError if TLS is the cause.
    """

    def __init__(self, host: str, port: int, tls: Optional[ssl.SSLContext], timeout: float, total: float) -> None:
        self._timeout, self._end = timeout, time.monotonic() + total
        self._due = 0.0  # monotonic time by which the current reply must arrive
        self._buffer = bytearray()
        if host.startswith("/"):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(host)
            except OSError:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection((host, port), timeout=timeout)
        if tls is not None:
            try:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            except socket.timeout:
                raise ssl.SSLError(1, "the server did not answer the TLS handshake") from None
        _open.add(self._socket)

    def call(self, *words: str) -> Any:
        """Send a command and return the reply: text, a number, None, or a list of them.

        Raises:
            ErrorReply: the server replied with an error.
            ProtocolError: the reply is not RESP, or too long.
            OSError: the connection broke, or the time limit was reached.
        """
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._due = min(time.monotonic() + self._timeout, self._end)
        self._wait()
        self._socket.sendall(request)
        return self._read(DEEPEST)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self, depth: int) -> Any:
        line = self._line()
        kind, rest = line[:1], line[1:].strip().decode("utf-8", "replace")
        if kind == b"+":
            return rest
        if kind == b"-":
            raise ErrorReply(rest)
        if kind == b":":
            return int(rest)
        if kind in (b"$", b"*") and rest == "-1":
            return None
        if kind == b"$" and 0 <= int(rest) <= LONGEST:
            return self._bytes(int(rest) + 2)[:-2].decode("utf-8", "replace")
        if kind == b"*" and 0 <= int(rest) <= LONGEST and depth:
            return [self._read(depth - 1) for _ in range(int(rest))]
        raise ProtocolError(repr(line[:60]))

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > LONGEST:
                raise ProtocolError("a line does not end")
            self._fill()
        return self._bytes(self._buffer.index(b"\n") + 1)

    def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _fill(self) -> None:
        self._wait()
        data = self._socket.recv(1 << 16)
        if not data:
            raise ProtocolError("the server closed the connection")
        self._buffer += data

    def _wait(self) -> None:
        """Limit the next socket operation to the time that is left."""
        left = self._due - time.monotonic()
        if left <= 0:
            raise socket.timeout("time limit reached")
        self._socket.settimeout(left)
