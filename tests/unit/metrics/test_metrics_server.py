"""The port of a worker's metrics, slow clients, and workers without metrics."""

import ast
import socket
import sys
import threading
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from processes import becomes
from structlog.testing import capture_logs

from actors.broker import Broker
from actors.metrics import REQUESTS, Metrics, _Handler, _listen, install
from pipeline.metrics import hooks
from voicemill.address import Address
from voicemill.config import ClientConfig
from voicemill.lifecycle import QUEUES
from voicemill.store import Store

CLONE = Path(__file__).parents[3]


def test_processes_of_one_kind_take_ports_in_steps_and_another_kind_has_its_own():
    with ExitStack() as servers:

        def listen(first, place):
            return servers.enter_context(_listen("127.0.0.1", first, place, {})).server_address[1]

        first = listen(0, 0)
        ports = [listen(first, place) for place in (0, 0, 1)]

    assert [(port - first) % len(QUEUES) for port in ports] == [0, 0, 1]
    assert len({first, *ports}) == 4


@pytest.fixture(autouse=True)
def _no_listeners_left():
    """Remove the listeners that a test's metrics added."""
    before = list(hooks.listeners)
    yield
    hooks.listeners[:] = before


@pytest.fixture
def broker():
    """A broker whose Redis does not exist."""
    return Broker(Store(ClientConfig(Address("redis://127.0.0.1:9/0"))))


def test_a_worker_without_a_free_port_works_without_metrics_and_logs_it(broker):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, capture_logs() as lines:
        port = taken.getsockname()[1]

        Metrics(broker, "decode").listen("127.0.0.1", port, processes=1)

    [line] = lines
    assert (line["log_level"], line["event"]) == ("warning", "Metrics not served: no port is free")
    assert line["first"] == port


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("192.0.2.1", 9464),  # reserved: RFC 5737
        ("no-such-host.invalid", 9464),
    ],
)
def test_an_address_that_cannot_be_used_ends_the_worker_with_a_line_that_names_it(broker, host, port, capsys):
    with pytest.raises(SystemExit) as caught:
        Metrics(broker, "decode").listen(host, port)

    assert caught.value.code == 2
    assert f"METRICS_HOST is '{host}', METRICS_PORT {port}: " in capsys.readouterr().err


@pytest.fixture
def server():
    """A server of one page, which is larger than a socket's buffer."""
    with _listen("127.0.0.1", 0, 0, {"/metrics": lambda _accept: (200, b"x" * 2**24, "text/plain")}) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, method, path):
    """Status and length of an answer."""
    with closing(HTTPConnection(*server.server_address, timeout=60)) as client:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, len(answer.read()), answer.headers["Content-Length"]


def test_head_has_no_body_and_unknown_pages_are_404(server):
    assert ask(server, "GET", "/metrics?debug=1") == (200, 2**24, str(2**24))
    with socket.create_connection(server.server_address, timeout=60) as client, client.makefile("rb") as answer:
        client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
        assert answer.read().endswith(f"\r\nContent-Length: {2**24}\r\n\r\n".encode())
    assert ask(server, "GET", "/metrics/")[0] == 404
    assert ask(server, "HEAD", "/")[:2] == (404, 0)
    assert ask(server, "POST", "/metrics")[0] == 501


def test_slow_clients_delay_no_others_and_are_disconnected(server):
    class Impatient(_Handler):
        timeout = _Handler.timeout / 20

    server.RequestHandlerClass = Impatient
    with ExitStack() as idle:
        silent, deaf = (idle.enter_context(socket.create_connection(server.server_address)) for _ in range(2))
        silent.sendall(b"GET /met")
        deaf.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")

        assert ask(server, "HEAD", "/metrics")[0] == 200
        silent.settimeout(60)
        assert silent.recv(1) == b""


def test_requests_at_a_time_are_limited(server):
    with ExitStack() as idle:
        for _ in range(REQUESTS):
            idle.enter_context(socket.create_connection(server.server_address)).sendall(b"GET /met")
        with pytest.raises(ConnectionError):
            ask(server, "HEAD", "/metrics")

    assert becomes(lambda: server._free._value == REQUESTS, 60)
    assert ask(server, "HEAD", "/metrics")[0] == 200


def test_a_worker_without_prometheus_client_works_without_metrics(broker, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pipeline.metrics.exposition", raising=False)

    install(broker, "decode", "127.0.0.1", 0)

    assert not [one for one in broker.middleware if isinstance(one, Metrics)]


def test_the_gpus_of_a_worker_are_exposed_with_the_values_that_they_report(broker):
    gib = 2**30
    one = {"name": "H100", "memory_used": 20 * gib, "memory_total": 80 * gib, "utilisation": 55, "temperature": 61}
    broker.gpus = lambda: [one, one | {"utilisation": None, "temperature": None}]
    text = Metrics(broker, "transcribe")._exposition.text("")[0].decode()

    assert 'voicemill_gpu_memory_used_bytes{gpu="1",name="H100"} 2.147483648e+10' in text
    assert 'voicemill_gpu_memory_total_bytes{gpu="0",name="H100"} 8.589934592e+10' in text
    assert 'voicemill_gpu_utilisation_ratio{gpu="0",name="H100"} 0.55' in text
    assert 'voicemill_gpu_temperature_celsius{gpu="0",name="H100"} 61.0' in text
    assert 'celsius{gpu="1"' not in text
    assert 'voicemill_ready{condition="redis"} 0.0' in text
    assert 'voicemill_ready{condition="canary"} 0.0' in text  # no model is loaded yet


def test_only_one_module_imports_prometheus_client_and_only_if_metrics_are_enabled():
    trees = {
        file.relative_to(CLONE).as_posix(): ast.parse(file.read_text())
        for folder in ("pipeline", "actors", "config")
        for file in (CLONE / folder).rglob("*.py")
    }

    def importers(name, nodes):
        return [file for file, tree in trees.items() if any(one.startswith(name) for one in imported(nodes(tree)))]

    assert importers("prometheus_client", ast.walk) == ["pipeline/metrics/exposition.py"]
    assert importers("pipeline.metrics.exposition", ast.walk) == ["actors/metrics.py"]
    assert not importers("pipeline.metrics.exposition", lambda tree: tree.body)
    assert importers("actors.metrics", ast.walk) == ["actors/worker.py"]
    assert not importers("actors.metrics", lambda tree: tree.body)


def imported(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
