"""Which port a worker's metrics are on, and what it costs not to want any."""

import ast
import sys
from contextlib import ExitStack
from pathlib import Path

from actors.broker import Broker
from actors.metrics import Metrics, _listen, install
from pipeline.queues import QUEUES

CLONE = Path(__file__).parents[3]


def test_processes_of_one_kind_take_ports_of_one_row_and_another_kind_its_own():
    with ExitStack() as servers:

        def listen(first, place):
            return servers.enter_context(_listen("127.0.0.1", first, place, {})).server_address[1]

        first = listen(0, 0)
        ports = [listen(first, place) for place in (0, 0, 1)]

    assert [(port - first) % len(QUEUES) for port in ports] == [0, 0, 1]
    assert len({first, *ports}) == 4


def test_a_worker_without_the_library_goes_without_metrics(monkeypatch):
    broker = Broker(middleware=[])
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pipeline.metrics.exposition", raising=False)

    install(broker, "decode", "127.0.0.1", 0)

    assert not [one for one in broker.middleware if isinstance(one, Metrics)]


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
