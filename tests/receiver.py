"""A receiver of webhooks on loopback, which verifies them with the standard's own library and misbehaves on demand."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Got:
    """A delivery that was verified."""

    id: str
    type: str
    job: str
    data: dict[str, Any]
    path: str
    answered: int
    headers: dict[str, str] = field(repr=False, default_factory=dict)


class Receiver(ThreadingHTTPServer):
    """Answers with what `behave(got)` returns: a status, a status and headers, or None to close the connection."""

    daemon_threads = True

    def __init__(self, secret: str = SECRET, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.scheme = "http"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.webhook = Webhook(secret)
        self.behave: Callable[[Got], Any] = lambda _got: 200
        self.got: list[Got] = []  # in the order in which they were answered
        self.forged = 0
        self.more = threading.Condition()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path: str = "hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_port}/{path}"

    @property
    def taken(self) -> list[Got]:
        """The deliveries that were answered with 2xx."""
        return [got for got in self.got if 200 <= got.answered < 300]

    def until(self, condition: Callable[[Receiver], bool], timeout: float = 60) -> None:
        """Wait until the condition on this receiver is true."""
        with self.more:
            assert self.more.wait_for(lambda: condition(self), timeout), f"after {timeout} s: {self.got}"

    def handle_error(self, request, client_address) -> None:
        """Ignore it: killed workers close their connections."""

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the end of the test."""
        self.stopping.wait(seconds)

    def close(self) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


@contextlib.contextmanager
def receiving(**options: Any) -> Iterator[Receiver]:
    server = Receiver(**options)
    try:
        yield server
    finally:
        server.close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers)
        try:
            event = server.webhook.verify(body, headers)
        except WebhookVerificationError:
            server.forged += 1
            self._answer(401, {})
            return
        job = event["data"].get("id", "")
        fields = headers["webhook-id"], event["type"], job, event["data"], self.path
        answer = server.behave(Got(*fields, 0, headers))
        status, extra = answer if isinstance(answer, tuple) else (answer, {})
        with server.more:
            server.got.append(Got(*fields, status or 0, headers))
            server.more.notify_all()
        if status is not None:
            with contextlib.suppress(OSError):
                self._answer(status, extra)

    do_GET = do_POST  # noqa: N815 - http.server looks for this name

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
