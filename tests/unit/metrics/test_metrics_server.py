"""Which port a worker's metrics are on, who may hold them up, and what it costs not to want any."""

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

from actors import metrics
from actors.broker import Broker
from actors.metrics import Metrics, _listen, install
from voicemill.lifecycle import QUEUES

CLONE = Path(__file__).parents[3]


def test_processes_of_one_kind_take_ports_of_one_row_and_another_kind_its_own():
    with ExitStack() as servers:

        def listen(first, place):
            return servers.enter_context(_listen("127.0.0.1", first, place, {})).server_address[1]

        first = listen(0, 0)
        ports = [listen(first, place) for place in (0, 0, 1)]

    assert [(port - first) % len(QUEUES) for port in ports] == [0, 0, 1]
    assert len({first, *ports}) == 4


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(measures, "listeners", [])
    return Metrics(Broker(middleware=[]), "decode")


def test_a_worker_for_which_no_port_is_left_works_without_metrics_and_says_so(shown, monkeypatch):
    monkeypatch.setattr(metrics, "PROCESSES", 1)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken, capture_logs() as lines:
        port = taken.getsockname()[1]

        shown.listen("127.0.0.1", port)

    [line] = lines
    assert (line["log_level"], line["event"]) == ("warning", "Metrics not served: no port is free")
    assert line["first"] == port


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("192.0.2.1", 9464),  # nobody's: RFC 5737
        ("no-such-host.invalid", 9464),
    ],
)
def test_a_place_that_is_not_to_be_had_ends_the_worker_with_a_line_that_names_it(shown, host, port, capsys):
    with pytest.raises(SystemExit) as caught:
        shown.listen(host, port)

    assert caught.value.code == 2
    assert f"METRICS_HOST is '{host}', METRICS_PORT {port}: " in capsys.readouterr().err


@pytest.fixture
def server():
    """A server of one page, which is larger than what a socket takes at once."""
    with _listen("127.0.0.1", 0, 0, {"/metrics": lambda _accept: (200, b"x" * 2**24, "text/plain")}) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def asked(server, method, path):
    """Status and length of an answer."""
    with closing(HTTPConnection(*server.server_address, timeout=60)) as client:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, len(answer.read()), answer.headers["Content-Length"]


def test_head_is_answered_without_a_body_and_what_there_is_not_with_404(server):
    assert asked(server, "GET", "/metrics?debug=1") == (200, 2**24, str(2**24))
    with socket.create_connection(server.server_address, timeout=60) as client, client.makefile("rb") as answer:
        client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
        assert answer.read().endswith(f"\r\nContent-Length: {2**24}\r\n\r\n".encode())
    assert asked(server, "GET", "/metrics/")[0] == 404
    assert asked(server, "HEAD", "/")[:2] == (404, 0)
    assert asked(server, "POST", "/metrics")[0] == 501


def test_who_asks_slowly_or_reads_nothing_holds_nobody_up_and_is_let_go(server, monkeypatch):
    monkeypatch.setattr(metrics._Handler, "timeout", metrics._Handler.timeout / 20)
    with ExitStack() as idle:
        silent, deaf = (idle.enter_context(socket.create_connection(server.server_address)) for _ in range(2))
        silent.sendall(b"GET /met")
        deaf.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")

        assert asked(server, "HEAD", "/metrics")[0] == 200
        silent.settimeout(60)
        assert silent.recv(1) == b""


def test_no_more_ask_at_a_time_than_may_and_later_others_do(server, monkeypatch):
    with ExitStack() as idle:
        for _ in range(metrics.ASKING):
            idle.enter_context(socket.create_connection(server.server_address)).sendall(b"GET /met")
        with pytest.raises(ConnectionError):
            asked(server, "HEAD", "/metrics")

    assert becomes(lambda: server._free._value == metrics.ASKING, 60)
    assert asked(server, "HEAD", "/metrics")[0] == 200


def test_a_worker_without_the_library_goes_without_metrics(monkeypatch):
    broker = Broker(middleware=[])
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pipeline.metrics.exposition", raising=False)

    install(broker, "decode", "127.0.0.1", 0)

    assert not [one for one in broker.middleware if isinstance(one, Metrics)]


def test_the_gpus_of_a_worker_are_shown_as_far_as_they_tell(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")  # nobody is there
    monkeypatch.setattr(measures, "listeners", [])
    broker = Broker(middleware=[])
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
    assert 'voicemill_ready{condition="canary"} 0.0' in text  # no model is there yet


def test_one_module_alone_loads_the_library_and_nobody_imports_it_before_metrics_are_asked_for():
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
    assert importers("actors.metrics", ast.walk) == ["actors/broker.py"]
    assert not importers("actors.metrics", lambda tree: tree.body)


def imported(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
