"""One table of metrics, and nothing that is noted, drawn or alerted on without a row in it."""

import ast
import re
from pathlib import Path

import pytest

from pipeline import metrics
from pipeline.metrics import METRICS, PREFIX

CLONE = Path(__file__).parents[3]
DEPLOY = CLONE / "deploy"
NAMED = re.compile(rf"\b{PREFIX}\w+")
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SERIES = {PREFIX + name + part for name, metric in METRICS.items() for part in PARTS[metric.kind]}


def notes():
    """Yield what the code notes: the place, the metric's name, and the names of its labels."""
    for folder in ("pipeline", "actors"):
        for file in (CLONE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "measures.note":
                    labels = {word.arg for word in node.keywords}
                    yield f"{file.relative_to(CLONE)}:{node.lineno}", ast.literal_eval(node.args[0]), labels


def test_what_is_noted_has_a_row_with_these_labels_and_every_counted_row_is_noted():
    found = list(notes())

    for place, name, labels in found:
        assert name in METRICS, place
        assert METRICS[name].kind != "gauge", place
        assert set(METRICS[name].labels) == labels, place
    counted = {name for name, row in METRICS.items() if row.kind != "gauge" and row.origin in ("stages", "transcribe")}
    assert counted == {name for _, name, _ in found}


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_customs_of_prometheus(name):
    row = METRICS[name]

    assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)
    assert name.endswith("_total") == (row.kind == "counter")
    assert (row.kind == "histogram") == bool(row.buckets)
    assert list(row.buckets) == sorted(set(row.buckets))
    assert len(row.labels) == 1 or not row.known


def test_the_table_has_a_row_of_six_cells_for_every_metric():
    rows = metrics.table().splitlines()[2:]

    assert [row.split("`")[1] for row in rows] == [PREFIX + name for name in METRICS]
    assert {row.count(" | ") for row in rows} == {5}
