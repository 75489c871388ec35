"""Every metric that is noted, plotted or alerted on is in the catalogue."""

import ast
import json
import re
from pathlib import Path

import pytest

from pipeline import metrics
from pipeline.metrics import METRICS, PREFIX
from voicemill._cli import COMMANDS

CLONE = Path(__file__).parents[3]
DEPLOY = CLONE / "deploy"
PARTS = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SERIES = {PREFIX + name + part for name, metric in METRICS.items() for part in PARTS[metric.kind]}


def notes():
    """Yield the place of each call of `hooks.note`, the metric's name, and the names of its labels."""
    for folder in ("voicemill", "pipeline", "actors"):
        for file in (CLONE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "hooks.note":
                    labels = {word.arg for word in node.keywords}
                    yield f"{file.relative_to(CLONE)}:{node.lineno}", ast.literal_eval(node.args[0]), labels


def test_noted_metrics_and_their_labels_are_those_of_the_catalogue():
    found = list(notes())

    for place, name, labels in found:
        assert name in METRICS, place
        assert METRICS[name].kind != "gauge", place
        assert set(METRICS[name].labels) == labels, place
    counted = {name for name, row in METRICS.items() if row.kind != "gauge" and row.origin in ("stages", "transcribe")}
    assert counted == {name for _, name, _ in found}


@pytest.mark.parametrize("name", METRICS)
def test_names_follow_the_conventions_of_prometheus(name):
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


def expressions():
    """Yield the expressions of alerts and dashboard."""
    yield from (DEPLOY / "prometheus" / "alerts.yml").read_text().splitlines()
    for panel in json.loads((DEPLOY / "grafana" / "voicemill.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def test_alerts_and_dashboard_use_existing_series_and_labels():
    asked = set()
    for expression in expressions():
        for name, labels in re.findall(rf"\b({PREFIX}\w+)(?:\{{([^}}]*)\}})?", expression):
            assert name in SERIES, expression
            asked.add(name)
            row = METRICS[re.sub("_(bucket|sum|count)$", "", name.removeprefix(PREFIX))]
            assert set(re.findall(r"(\w+)[!=]", labels)) <= set(row.labels), expression
    roots = {re.sub("_(bucket|sum|count)$", "", name).removeprefix(PREFIX) for name in asked}
    deprecated = {name for name, row in METRICS.items() if row.help.startswith("Deprecated")}
    assert roots == set(METRICS) - deprecated, "a metric that neither an alert nor the dashboard uses"


def test_every_alert_names_the_first_command_to_run():
    rules = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    alerts = rules.split("- alert: ")[1:]

    assert len({alert.split()[0] for alert in alerts}) == len(alerts) > 15
    for alert in alerts:
        assert "`" in alert.split("fix: ")[1], alert
    for command in re.findall(r"`(?:python -m pipeline|voicemill) (\w+)", rules):
        assert command in COMMANDS
