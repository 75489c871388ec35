"""Just enough of Redis's protocol to examine a server with the standard library alone."""

from __future__ import annotations

import socket
import ssl
from typing import Any, BinaryIO, Optional


class Refused(Exception):
    """The server answered with an error; its text is the message."""


class NotRedis(Exception):
    """What answers does not speak Redis's protocol."""


class Connection:
    """A connection to a server.

    Args:
        host: name or address; a path is a Unix socket's.
        port: of TCP.
        tls: the context, where the connection is to be encrypted.
        timeout: of each wait, in seconds.

    Raises:
        OSError: there is no connection; an ssl.SSLError where TLS is at fault.
    """

    def __init__(self, host: str, port: int, tls: Optional[ssl.SSLContext], timeout: float) -> None:
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
        self._file: BinaryIO = self._socket.makefile("rb")

    def call(self, *words: str) -> Any:
        """Send a command and return the answer: text, a number, None, or a list of them.

        Raises:
            Refused: the server's error.
            NotRedis: the answer is none.
            OSError: the connection broke, or the time was up.
        """
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(request)
        return self._read()

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self._socket.close()

    def _read(self) -> Any:
        line = self._file.readline()
        if not line:
            raise NotRedis("it closed the connection")
        kind, rest = line[:1], line[1:].strip().decode("utf-8", "replace")
        if kind == b"+":
            return rest
        if kind == b"-":
            raise Refused(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == "-1":
                return None
            data = self._file.read(int(rest) + 2)
            return data[:-2].decode("utf-8", "replace")
        if kind == b"*":
            return None if rest == "-1" else [self._read() for _ in range(int(rest))]
        raise NotRedis(repr(line[:60]))
