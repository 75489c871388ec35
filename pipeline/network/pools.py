"""Connections to hosts that senders choose: only to addresses that were checked, and always with a deadline."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import cache

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util import Timeout, Url
from urllib3.util.ssl_ import create_urllib3_context

from pipeline.network.addresses import Check

TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # variables that name other certificate authorities to OpenSSL
LONGEST_WAIT = 2**31  # seconds; whatever a server asks for beyond that means the same


class Watch:
    """Shuts a connection down at a deadline, even if the server keeps it alive by sending a byte now and then."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(max(0.0, seconds), self._end)
        self._timer.daemon = True
        self._timer.start()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    def take(self, connection: socket.socket) -> None:
        """Watch this connection from now on, in place of an earlier one."""
        with self._lock:
            self._drop()
            self._socket = connection.dup()  # TLS detaches the first object's descriptor
        if self.left <= 0:
            self._end()

    def stop(self) -> None:
        """End the watch."""
        self._timer.cancel()
        with self._lock:
            self._drop()

    def _end(self) -> None:
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def pool(where: Url, timeout: Timeout, check: Check, watch: Watch) -> urllib3.HTTPConnectionPool:
    """Return urllib3's pool for one host, whose connections go only to addresses that `check` returned."""

    class Checked(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, check, watch)

    class CheckedTLS(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, check, watch)

    host = where.host or ""
    # The port is always given; otherwise http.client looks for one in an IPv6 address.
    made: urllib3.HTTPConnectionPool
    if where.scheme == "https":
        trusted = _trust(*map(os.environ.get, TRUST))
        made = urllib3.HTTPSConnectionPool(host, where.port or 443, timeout=timeout, maxsize=1, ssl_context=trusted)
        made.ConnectionCls = CheckedTLS
    else:
        made = urllib3.HTTPConnectionPool(host, where.port or 80, timeout=timeout, maxsize=1)
        made.ConnectionCls = Checked
    return made


@cache
def _trust(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Return the trusted authorities, loaded once for each process: that takes longer than a request."""
    context = create_urllib3_context()
    context.load_default_certs()
    return context


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(min(int(text[:20]), LONGEST_WAIT))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _connect(connection: HTTPConnection, check: Check, watch: Watch) -> socket.socket:
    failure: OSError | None = None
    for address in check(connection.host, connection.port):
        try:
            made = socket.create_connection(address, min(float(connection.timeout or 1), max(0.01, watch.left)))
        except OSError as error:
            failure = error
        else:
            watch.take(made)
            return made
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, "the server does not answer") from failure
    raise NewConnectionError(connection, f"{failure.strerror if failure else 'no address'}") from failure
