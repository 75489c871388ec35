"""The reference pages of the documentation, made of the code so that they cannot tell another story than it does.

`python -m cli.reference` writes them to docs/reference/; `make generated` runs it, and a test holds that
what lies there is what the code says.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from types import ModuleType

from pydantic import SecretStr

import config.settings
import voicemill.errors
from config import environment
from config.settings import Settings, variable
from pipeline.__main__ import COMMANDS, EXIT_CODES
from pipeline.doctor import cli

FOLDER = environment.STATE.parent / "docs" / "reference"
MADE = "<!-- Made of the code by `make generated`; change the code, not this page. -->\n"


def settings() -> str:
    """Return the page of all settings: variable, default, what it takes and what it means."""
    lines = [
        "# Settings",
        "",
        MADE,
        "Every setting is an environment variable, or a line of a file `.env` beside the Procfile; the environment",
        "wins. `python -m pipeline settings` prints the effective ones, secrets masked.",
    ]
    headings = _headings(config.settings, r"    (\w+): ")
    for name, field in Settings.model_fields.items():
        if name in headings:
            lines += ["", f"## {headings[name]}", "", "| variable | default | meaning |", "| --- | --- | --- |"]
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "unset" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        shown = "empty" if default == "" else shown
        lines.append(f"| `{variable(name)}` | {shown} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def errors() -> str:
    """Return the page of all error codes: whether the same work may succeed later, and what to do."""
    lines = [
        "# Error codes",
        "",
        MADE,
        "A failed job's `error` has one of these codes, a message that says what happened to it, and `retryable`.",
        "Codes of enrichment stand in `enrichment_error` and those of webhooks in the record's `webhook`: the job is",
        "`done` all the same. *May pass* means that the same work may succeed later. *Fault* says where the cause",
        "usually lies: in the message, in the worker's own machine, or outside both. Before a failure is charged to a",
        "message, a decode worker proves that its machine can decode; see [operations](../operations.md).",
    ]
    headings = _headings(voicemill.errors, r'    "(\w+)": Code\(')
    for code, row in CODES.items():
        if code in headings:
            lines += ["", f"## {headings[code]}", "", "| code | may pass | fault | what to do |"]
            lines.append("| --- | --- | --- | --- |")
        may_pass = "yes" if row.retryable else "no"
        lines.append(f"| `{code}` | {may_pass} | {row.fault.value} | {_cell(row.remedy)} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Return the page of all commands with their arguments, as `--help` tells them."""
    lines = [
        "# Commands",
        "",
        MADE,
        "Each is `python -m pipeline COMMAND`, with the Python of the virtual environment: `.venv/bin/python` after",
        "`make install`. `--help` after a command tells the same as this page.",
        "",
        "```text",
        EXIT_CODES,
        "```",
    ]
    for name, summary in COMMANDS.items():
        if name == "doctor":
            parser = cli._parser()  # noqa: SLF001 - the doctor stands alone, and parses alone
        else:
            parser = argparse.ArgumentParser(prog=f"python -m pipeline {name}")
            importlib.import_module(f"cli.{name}").configure(parser)
        lines += ["", f"## {name}", "", f"{summary[0].upper()}{summary[1:]}.", *_arguments(parser, f"{name} ")]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Return the page of all metrics, with their labels and units."""
    catalogue = importlib.import_module("pipeline.metrics")
    lines = [
        "# Metrics",
        "",
        MADE,
        "With `METRICS_PORT=9464` every worker process on a machine answers for itself: decode on port 9464,",
        "transcribe on 9465, enrich on 9466, webhook on 9467; a second process of a kind on a port four higher, a",
        "third eight. Unset, nothing listens. The extra `metrics` (prometheus-client) has to be installed. The address",
        "is `METRICS_HOST`, 127.0.0.1 by itself; these pages know no keys, so let only your Prometheus reach them.",
        "",
        "| page | answers |",
        "| --- | --- |",
        "| `/metrics` | what is below, for Prometheus; also what the process takes of the machine: `process_…` |",
        "| `/healthz` | 200 while the process has all its threads, 503 where it should be started again |",
        "| `/readyz` | 200 while the worker does its work, else 503; the body says which condition fails, and why |",
        "",
        "A worker is ready while it is `running` (not starting, not stopping), `redis` answers within a second, it is",
        "`consuming` (it has looked into its queues within 20 s), and, for transcribe, every model process has passed",
        "its `canary` or a batch within 60 s and `TRANSCRIBE_TIMEOUT`.",
        "",
        "`deploy/prometheus/` has a configuration, alerts that name the command to begin with, and their tests;",
        "`deploy/grafana/voicemill.json` is a dashboard to import. `make drill-metrics` runs all of it.",
        "",
        "*From* tells who counts. `Redis`: what all workers share, the same from each of them, so take `max by (…)`",
        "and never the sum. `stages`: each worker of decode, transcribe and enrich for itself. `transcribe`: each",
        "worker of that stage. `worker`: every worker of itself.",
        "",
        catalogue.table(),
    ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, Callable[[], str]]:
    """Return the function that makes each page, by the name of its file in `docs/reference/`."""
    found = {"settings.md": settings, "errors.md": errors, "commands.md": commands}
    if importlib.util.find_spec("pipeline.metrics"):
        found["metrics.md"] = metrics
    return found


def _arguments(parser: argparse.ArgumentParser, prefix: str) -> Iterator[str]:
    """Yield the lines of a parser's table of arguments, and of those of the commands below it."""
    rows, below = [], []
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            below += [(name, summaries[name], child) for name, child in action.choices.items()]
        elif action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):  # noqa: SLF001
            rows.append(f"| {_invocation(action)} | {_cell((action.help or '').replace('%%', '%'))} |")
    if rows:
        yield from ["", "| argument | meaning |", "| --- | --- |", *rows]
    for name, summary, child in below:
        yield from ["", f"### {prefix}{name}", "", f"{summary[0].upper()}{summary[1:]}.", *_arguments(child, "")]


def _invocation(action: argparse.Action) -> str:
    """Return how an argument is written, such as `--format {json,txt}`; several values end with an ellipsis."""
    values = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    name = action.metavar if isinstance(action.metavar, str) else values or action.dest.upper()
    more = " …" if action.nargs in ("+", "*") else ""
    if not action.option_strings:
        return f"`{name}`{more}"
    takes = "" if action.nargs == 0 else f" {name}"
    return f"`{', '.join(action.option_strings)}{takes}`{more}"


def _headings(module: ModuleType, entry: str) -> dict[str, str]:
    """Return the comments that head groups of entries in a module's source, without what follows a colon.

    Each is found by the name of the first entry below it; `entry` is the pattern of an entry's line.
    """
    found, heading = {}, ""
    for line in inspect.getsource(module).splitlines():
        if comment := re.fullmatch(r"    # ([A-Z][^:]*)(:.*)?", line):
            heading = comment[1]
        elif heading and (match := re.match(entry, line)):
            found[match[1]] = heading
            heading = ""
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, page in pages().items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
