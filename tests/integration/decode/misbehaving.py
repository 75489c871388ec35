"""A web server on loopback that misbehaves: redirects, wrong lengths, slow, broken, endless and busy answers."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Misbehaving(ThreadingHTTPServer):
    """Serves `voice`; each path misbehaves in the way that its name says. `asked`: paths and headers of requests."""

    daemon_threads = True

    def __init__(self, voice: bytes, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.voice, self.scheme = voice, "https" if tls else "http"
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.stopping = threading.Event()

    def handle_error(self, request, client_address) -> None:
        """Ignore it: the tests make clients close their connections."""

    def url(self, path: str, *, credentials: str = "", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{credentials}{host}:{self.server_port}/{path}"

    def times(self, path: str) -> int:
        return sum(asked == f"/{path}" for asked, _ in self.asked)


@contextmanager
def serving(voice: bytes, tls: ssl.SSLContext | None = None) -> Iterator[Misbehaving]:
    server = Misbehaving(voice, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Misbehaving

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.voice = self.server.voice
        self.close_connection = True
        name = re.sub(r"\W.*", "", self.path[1:])
        with contextlib.suppress(OSError):
            getattr(self, f"_{name}", self._missing)()

    def _first(self) -> bool:
        return self.server.times(self.path[1:]) == 1

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _missing(self) -> None:
        self._answer(404)

    def _good(self) -> None:
        self._answer(200, self.voice)

    def _nolength(self) -> None:
        self._answer(200, self.voice, Content_Length="")

    def _chunked(self) -> None:
        self._answer(200, Transfer_Encoding="chunked", Content_Length="")
        for start in range(0, len(self.voice), 1000):
            piece = self.voice[start : start + 1000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _badchunks(self) -> None:
        self._answer(200, b"zz\r\nnonsense\r\n", Transfer_Encoding="chunked", Content_Length="")

    def _toolong(self) -> None:  # promises more than there is
        self._answer(200, self.voice, Content_Length=str(len(self.voice) + 1000))

    def _short(self) -> None:  # promises less than there is: the rest is not the answer's
        self._answer(200, self.voice, Content_Length=str(len(self.voice) // 2))

    def _gigantic(self) -> None:  # promises a terabyte
        self._answer(200, self.voice, Content_Length=str(2**40))

    def _negative(self) -> None:
        self._answer(200, self.voice, Content_Length="-5")

    def _endless(self) -> None:
        self._answer(200, Content_Length="")
        while not self.server.stopping.is_set():
            self.wfile.write(bytes(65536))

    def _dribble(self) -> None:
        self._answer(200, Content_Length=str(len(self.voice)))
        for byte in self.voice:
            self.wfile.write(bytes([byte]))
            if self.server.stopping.wait(0.05):
                return

    def _dribblehead(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.server.stopping.wait(0.05):
            self.wfile.write(b"x")

    def _silent(self) -> None:
        self.server.stopping.wait(30)

    def _hangs(self) -> None:
        self._answer(200, self.voice[:3000], Content_Length=str(len(self.voice)))
        self.server.stopping.wait(30)

    def _bighead(self) -> None:
        self._answer(200, self.voice, **{f"X{n}": "x" * 60_000 for n in range(200)})

    def _nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    def _resets(self) -> None:
        self._reset()

    def _resume(self) -> None:
        """Closes the connection once, then continues where requested."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range") == '"one"':
            start = int(wanted[1])
            rest = self.voice[start:]
            place = f"bytes {start}-{len(self.voice) - 1}/{len(self.voice)}"
            self._answer(206, rest, Content_Range=place, ETag='"one"')
        else:
            self._answer(200, self.voice[:9000], Content_Length=str(len(self.voice)), ETag='"one"')

    def _changed(self) -> None:
        """Closes the connection once, then serves another file."""
        body = self.voice[:9000] if self._first() else self.voice
        self._answer(200, body, Content_Length=str(len(self.voice)), ETag='"one"' if self._first() else '"two"')

    def _otherpart(self) -> None:
        """Closes the connection once, then sends a range that was not requested."""
        if "Range" in self.headers:
            self._answer(206, self.voice[5:], Content_Range=f"bytes 5-{len(self.voice) - 1}/{len(self.voice)}")
        elif self._first():
            self._answer(200, self.voice[:9000], Content_Length=str(len(self.voice)), ETag='"one"')
        else:
            self._answer(200, self.voice)

    def _unasked(self) -> None:
        self._answer(206, self.voice[100:], Content_Range=f"bytes 100-{len(self.voice) - 1}/{len(self.voice)}")

    def _busyonce(self) -> None:
        if self._first():
            self._answer(503, Retry_After="0")
        else:
            self._answer(200, self.voice)

    def _busy(self) -> None:
        self._answer(503, Retry_After="600")

    def _limited(self) -> None:
        self._answer(429, Retry_After="3600")

    def _down(self) -> None:
        self._answer(500)

    def _secret(self) -> None:
        self._answer(403)

    def _gone(self) -> None:
        self._answer(410)

    def _empty(self) -> None:
        self._answer(200)

    def _nocontent(self) -> None:
        self._answer(204)

    def _gzip(self) -> None:
        self._answer(200, self.voice, Content_Encoding="gzip")

    def _page(self) -> None:
        self._answer(200, b"<!doctype html><html><body>Please log in</body></html>" * 9, Content_Type="audio/ogg")

    def _to(self) -> None:
        """Redirects to what follows the question mark."""
        self._answer(302, Location=unquote(self.path.partition("?")[2]))

    def _loop(self) -> None:
        self._answer(301, Location="/loop")

    def _nowhere(self) -> None:
        self._answer(302)
