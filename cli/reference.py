"""The reference pages of the documentation, generated from the code.

`python -m cli.reference` writes them to docs/reference/; `make generated` runs it, and a test compares them.
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
from voicemill import _cli
from voicemill._cli import exits
from voicemill.errors import ErrorCode

FOLDER = environment.STATE.parent / "docs" / "reference"
GENERATED = "<!-- Generated from the code by `make generated`: change the code, not this page. -->\n"


def settings() -> str:
    """Return the page of all settings: variable, default and meaning."""
    lines = [
        "# Settings",
        "",
        GENERATED,
        "Every setting is an environment variable, or a line of the file `.env` beside the Procfile; the environment",
        "wins. `voicemill settings` prints the effective ones, secrets masked.",
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
    """Return the page of all error codes: whether a retry may help, where the cause lies, and what to do."""
    lines = [
        "# Error codes",
        "",
        GENERATED,
        "A failed job's `error` has one of these codes, a message that says what happened to it, and `retryable`.",
        "Codes of enrichment are in `enrichment_error` and those of webhooks in the record's `webhook`; the job is",
        "`done` all the same. *Retryable* means that the same work may succeed later. *Fault* says where the cause",
        "usually lies: in the message, on the worker's machine, or outside both. Before a decode worker blames a",
        "message for a failure, it checks that its machine can decode; see [operations](../operations.md).",
    ]
    headings = _headings(voicemill.errors, r"    (\w+) = \(")
    for code in ErrorCode:
        if code.name in headings:
            lines += ["", f"## {headings[code.name]}", "", "| code | retryable | fault | what to do |"]
            lines.append("| --- | --- | --- | --- |")
        retryable = "yes" if code.retryable else "no"
        lines.append(f"| `{code}` | {retryable} | {code.fault.value} | {_cell(code.remedy)} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """Return the page of all commands with their arguments, as `--help` shows them."""
    lines = [
        "# Commands",
        "",
        GENERATED,
        "Each is `voicemill COMMAND`: in a clone `.venv/bin/voicemill`, after `make install`. `python -m pipeline` is",
        "an alias. Commands marked *clone* need a clone of the repository or the image; the others are also in the",
        "client that `pip install voicemill` installs. `--help` shows what is on this page.",
        "",
        "```text",
        exits.SUMMARY,
        "```",
    ]
    for name, parser in _cli.parsers().items():
        command = _cli.COMMANDS[name]
        summary = f"{command.summary}{' (*clone*)' * command.needs_clone}"
        lines += ["", f"## {name}", "", f"{summary[0].upper()}{summary[1:]}.", *_arguments(parser, f"{name} ")]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Return the page of all metrics, with their labels and units."""
    catalogue = importlib.import_module("pipeline.metrics")
    lines = [
        "# Metrics",
        "",
        GENERATED,
        "With `METRICS_PORT=9464` every worker process on a machine serves its own metrics: decode on port 9464,",
        "transcribe on 9465, enrich on 9466, webhook on 9467; the second process of a kind four ports higher, the",
        "third eight. If it is unset, nothing listens. The extra `metrics` (prometheus-client) must be installed. The",
        "address is `METRICS_HOST`, by default 127.0.0.1. It has no authentication: let only your Prometheus reach it.",
        "",
        "| page | response |",
        "| --- | --- |",
        "| `/metrics` | the metrics below, for Prometheus, and those of the process: `process_…` |",
        "| `/healthz` | 200 while all threads of the process run, 503 if it should be restarted |",
        "| `/readyz` | 200 while the worker works, else 503; the body says which condition fails, and why |",
        "",
        "A worker is ready while it is `running` (not starting, not stopping), `redis` answers within a second, it is",
        "`consuming` (it has polled its queues within 20 s), and, for transcribe, every model process has passed",
        "its `canary` or a batch within 60 s and `TRANSCRIBE_TIMEOUT`.",
        "",
        "`deploy/prometheus/` has a configuration, alerts that name the first command to run, and their tests;",
        "`deploy/grafana/voicemill.json` is a dashboard to import. `make drill-metrics` runs all of it.",
        "",
        "*From* says who reports a metric. `Redis`: every worker reports the same, shared value, so use `max by (…)`",
        "and never the sum. `stages`: each worker of decode, transcribe and enrich reports its own. `transcribe`: each",
        "worker of that stage. `worker`: every worker.",
        "",
        catalogue.table(),
    ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, Callable[[], str]]:
    """Return the functions that generate the pages, by file name in `docs/reference/`."""
    found = {"settings.md": settings, "errors.md": errors, "commands.md": commands}
    if importlib.util.find_spec("pipeline.metrics"):
        found["metrics.md"] = metrics
    return found


def _arguments(parser: argparse.ArgumentParser, prefix: str) -> Iterator[str]:
    """Yield the lines of the table of a parser's arguments, and of those of its subcommands."""
    rows, below = [], []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of them
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
    """Return the comments that head groups of entries in a module's source, up to a colon.

    The keys are the names of the first entries below them; `entry` is the pattern of an entry's line.
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
