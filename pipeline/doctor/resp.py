"""Just enough of Redis's protocol to examine a server with the standard library alone."""

from __future__ import annotations

import socket
import ssl
import time
import weakref
from contextlib import suppress
from typing import Any, Optional

LONGEST = 1 << 20  # bytes of an answer; INFO, the longest that we ask for, has some 10 KB
DEEPEST = 4  # lists in lists

_open: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


class ErrorReply(Exception):
    """The server answered with an error; its text is the message."""


class ProtocolError(Exception):
    """What answers does not speak Redis's protocol."""


def stop() -> None:
    """Break off every conversation: who waits for an answer waits no longer."""
    for each in list(_open):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class Connection:
    """A connection to a server, which may be slow, silent or hostile: all that it can cost is the time allowed.

    Args:
        host: name or address; a path is a Unix socket's.
        port: of TCP.
        tls: the context, where the connection is to be encrypted.
        timeout: of each answer, in seconds.
        whole: of the connection's life, in seconds.

    Raises:
        OSError: there is no connection; an ssl.SSLError where TLS is at fault.
    """

    def __init__(self, host: str, port: int, tls: Optional[ssl.SSLContext], timeout: float, whole: float) -> None:
        self._timeout, self._end = timeout, time.monotonic() + whole
        self._due = 0.0  # when the answer must be here
        self._buffer = bytearray()
        if host.startswith("/"):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(host)
        else:
            self._socket = socket.create_connection((host, port), timeout=timeout)
        if tls is not None:
            try:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            except socket.timeout:
                raise ssl.SSLError(1, "the TLS handshake was not answered") from None
        _open.add(self._socket)

    def call(self, *words: str) -> Any:
        """Send a command and return the answer: text, a number, None, or a list of them.

        Raises:
            ErrorReply: the server's error.
            ProtocolError: the answer is none.
            OSError: the connection broke, or the time was up.
        """
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._due = min(time.monotonic() + self._timeout, self._end)
        self._wait()
        self._socket.sendall(request)
        return self._read(DEEPEST)

    def close(self) -> None:
        """End the connection."""
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
                raise ProtocolError("a line without an end")
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
            raise ProtocolError("it closed the connection")
        self._buffer += data

    def _wait(self) -> None:
        """Let the next step take as long as there is time left."""
        left = self._due - time.monotonic()
        if left <= 0:
            raise socket.timeout("the time was up")
        self._socket.settimeout(left)
