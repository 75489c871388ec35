"""The HTTP server on `METRICS_PORT`: /metrics for Prometheus, /healthz and /readyz for supervisors.

Dramatiq's own Prometheus middleware is not used: it shares memory-mapped files between processes and serves them from
another process, which answers even while the worker hangs, and knows nothing of jobs, queues and models. Here each
worker process serves its own metrics on its own port.

Ports: `METRICS_PORT` is the first one of a machine. Each kind of worker has an offset, in the order of the Procfile
(decode +0, transcribe +1, enrich +2, webhook +3), so that one setting serves all of them. Further processes of a kind
take the next free port in steps of four.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any

import dramatiq
import structlog
from dramatiq.middleware import Middleware

from actors import process
from actors.health import Conditions, Health
from voicemill.lifecycle import QUEUES

if TYPE_CHECKING:
    from actors.broker import Broker
    from pipeline.metrics.shared import Sample

PROCESSES = 16  # of one kind on a machine that get a port
REQUESTS = 32  # at a time; more would take threads and file descriptors from the worker
HIGHEST = 65535

Page = Callable[[str], tuple[int, bytes, str]]  # an Accept header to status, body and content type

log = structlog.get_logger(__name__)


class Metrics(Middleware):
    """The pages of one worker; a middleware, so that it gets to know the worker's threads.

    Args:
        broker: the worker's.
        stage: the worker's: decode, transcribe, enrich or webhook.

    Raises:
        ModuleNotFoundError: prometheus_client is not installed.
    """

    def __init__(self, broker: Broker, stage: str) -> None:
        from pipeline.metrics.exposition import Exposition  # noqa: PLC0415 - it is optional

        self._broker, self._stage = broker, stage
        self._health = Health(broker, stage)
        self._exposition = Exposition(stage, broker.store, self._samples)
        self._pages: dict[str, Page] = {
            "/metrics": lambda accept: (200, *self._exposition.text(accept)),
            "/healthz": lambda _accept: _verdict("alive", self._health.alive()),
            "/readyz": lambda _accept: _verdict("ready", self._health.ready()),
        }

    def listen(self, host: str, port: int, processes: int = PROCESSES) -> None:
        """Serve until the process ends, also while the model is being loaded and while the worker drains.

        Args:
            host: address to listen on.
            port: the first one of the machine; 0: any free one.
            processes: how many ports are tried.

        Raises:
            SystemExit: 2, the address is not this machine's, or this user may not listen on the port.
        """
        try:
            server = _listen(host, port, QUEUES.index(self._stage), self._pages, processes)
        except OSError as error:
            place = f"METRICS_HOST is {host!r}, METRICS_PORT {port}"
            process.give_up(self._stage, f"{place}: {error.strerror or error}", process.USAGE)
        if server is None:
            log.warning("Metrics not served: no port is free", host=host, first=port, tried=processes)
            return
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        shown = f"[{host}]" if ":" in host else host
        log.info("Metrics served", stage=self._stage, url=f"http://{shown}:{server.server_address[1]}/metrics")

    def after_worker_boot(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Remember the worker, whose threads are checked from now on."""
        self._health.worker = worker

    def _samples(self) -> Iterator[Sample]:
        """Yield samples of the worker's own state."""
        from pipeline.metrics.shared import Sample  # noqa: PLC0415 - imports only what metrics need

        yield Sample("worker_info", (self._stage, self._broker.device), 1)
        for condition, reason in self._health.ready().items():
            yield Sample("ready", (condition,), reason is None)
        engine = self._broker.engine
        if engine is not None:
            ages = engine.proofs
            starting = sum(age is None for age in ages.values())
            states = {"ready": len(ages) - starting, "starting": starting, "retired": engine.retired}
            for state, count in states.items():
                yield Sample("slots", (state,), count)
            for name, age in ages.items():
                if age is not None:
                    yield Sample("slot_proof_age_seconds", (name,), age)
        for index, gpu in enumerate(self._broker.gpus()):
            labels = (str(index), gpu["name"])
            values = {
                "gpu_memory_used_bytes": gpu["memory_used"],
                "gpu_memory_total_bytes": gpu["memory_total"],
                "gpu_utilisation_ratio": None if gpu["utilisation"] is None else gpu["utilisation"] / 100,
                "gpu_temperature_celsius": gpu["temperature"],
            }
            for name, value in values.items():
                if value is not None:
                    yield Sample(name, labels, value)


def install(broker: Broker, stage: str, host: str, port: int) -> None:
    """Serve a worker's metrics and health if prometheus_client is installed."""
    try:
        metrics = Metrics(broker, stage)
    except ModuleNotFoundError as error:
        log.warning("Metrics not served: the extra `metrics` is not installed", missing=error.name)
        return
    broker.add_middleware(metrics)
    metrics.listen(host, port)


def _verdict(word: str, conditions: Conditions) -> tuple[int, bytes, str]:
    """Return the answer of a health page: 503 if a condition fails, and which one."""
    holds = not any(conditions.values())
    answer = {word: holds, "conditions": {name: reason or "ok" for name, reason in conditions.items()}}
    return (200 if holds else 503), json.dumps(answer).encode() + b"\n", "application/json"


class _MetricsServer(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    pages: dict[str, Page]

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.Semaphore(REQUESTS)
        super().__init__(*arguments)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - as the base class declares it
        """Return whether there is a thread for a request; otherwise it is closed at once."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request, then release its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the base class declares it
        """Log an error, unless the client closed the connection."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("Metrics request failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    server: _MetricsServer
    timeout = 10.0  # seconds that a client may take
    server_version = "Voicemill"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(404)
            return
        status, body, content_type = page(self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base class looks for this name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class declares it
        """Log no requests: they come every few seconds."""


def _listen(
    host: str, first: int, place: int, pages: dict[str, Page], processes: int = PROCESSES
) -> _MetricsServer | None:
    """Return a server on the first free port of a kind's; None: all are taken.

    Raises:
        OSError: the address cannot be listened on.
    """
    step = len(QUEUES)
    ports = [first + place + step * number for number in range(processes)] if first else [0]
    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    for port in ports:
        if port > HIGHEST:
            break
        server = type("_MetricsServer", (_MetricsServer,), {"address_family": address[0], "pages": pages})
        try:
            return server((address[4][0], port), _Handler)  # type: ignore[no-any-return]  # made by type()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return None
