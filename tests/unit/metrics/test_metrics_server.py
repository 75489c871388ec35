"""Which port a worker's metrics are on, and what it costs not to want any."""

import ast
import sys
from contextlib import ExitStack
from pathlib import Path

from actors.broker import Broker
from actors.metrics import Metrics, _listen, install
from pipeline import measures
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
