"""`status`: the stages as they are now, in a table or as JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import redis

from voicemill._cli import exits, output
from voicemill.client import Client
from voicemill.lifecycle import WEBHOOK
from voicemill.status import Percentiles, SystemStatus
from voicemill.store.jobs import TIMINGS
from voicemill.store.workers import Worker

EVERY = 2.0  # seconds between two refreshes with --watch
CLEAR = "\x1b[H\x1b[J"  # the terminal, from its upper left corner
PAUSED = "  paused: "


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --watch, one per line")
    parser.add_argument("--watch", action="store_true", help="refresh every two seconds until Ctrl-C")


def run(arguments: argparse.Namespace, client: Client, every: float = EVERY) -> int:
    """Show the status; 1 if a stage has no worker."""
    now = client.status()
    if arguments.watch:
        _follow(client, now, _print_line if arguments.json else _print_screen, every)
    elif arguments.json:
        print(json.dumps(now.as_dict(), indent=2))
    else:
        _print(now)
    return exits.FAILED if now.unattended else exits.DONE


def _follow(client: Client, now: SystemStatus, show: Callable[[SystemStatus], None], every: float) -> NoReturn:
    """Show the status again and again; while Redis is away, say so and wait."""
    show(now)
    while True:
        time.sleep(every)
        try:
            show(client.status())
        except redis.RedisError as error:
            print(f"Redis cannot be used, waiting: {error}", file=sys.stderr)


def _print_line(now: SystemStatus) -> None:
    print(json.dumps(now.as_dict()), flush=True)


def _print_screen(now: SystemStatus) -> None:
    print(CLEAR if sys.stdout.isatty() else "", end="" if sys.stdout.isatty() else "\n")
    _print(now)
    sys.stdout.flush()


def _print(now: SystemStatus) -> None:
    columns = shutil.get_terminal_size().columns
    print("\n".join(shown(now, columns, coloured=output.coloured(sys.stdout))))


def shown(now: SystemStatus, columns: int, *, coloured: bool = False) -> list[str]:
    """Return the lines of the status: two tables, beside each other if they fit, workers and remarks.

    Args:
        now: the status.
        columns: of the terminal.
        coloured: whether it shows colours.
    """
    red = output.red if coloured else str
    tables = [line.replace("none", red("none")) for line in output.beside(_queues(now), _times(now), columns)]
    return [*tables, "", *_wrapped(_workers(now), columns, red), *_wrapped(_remarks(now), columns, red)]


def _wrapped(lines: Iterator[str], columns: int, red: Callable[[str], str]) -> Iterator[str]:
    for line in lines:
        indent = "    " if line.startswith(" ") else "  "
        parts = textwrap.wrap(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        yield from map(red, parts) if line.startswith(PAUSED) else parts or [""]


def _queues(now: SystemStatus) -> list[str]:
    titles = ("stage", "workers", "waiting", "working", "delayed", "dead")
    stages = {name: (stage.workers, stage.depth) for name, stage in now.stages.items()}
    rows = []
    for name, (workers, depth) in (stages | {WEBHOOK: (now.webhooks.workers, now.webhooks.depth)}).items():
        count = "none" if name in now.unattended else str(len(workers))
        rows.append((name, count, *map(str, (depth.waiting, depth.in_progress, depth.delayed, depth.dead))))
    return output.table(titles, rows, right=range(1, len(titles)))


def _times(now: SystemStatus) -> list[str]:
    titles = ("stage", "oldest (s)", "done/min", "waited (s)", "worked (s)")
    rows = []
    for name, stage in now.stages.items():
        oldest = "" if stage.oldest_waiting is None else _seconds(stage.oldest_waiting)
        rows.append((name, oldest, str(stage.done_last_minute), _pair(stage.wait), _pair(stage.work)))
    rows.append(("", "", "", "", ""))  # as many lines as the queues have, of which the webhooks' is one
    return output.table(titles, rows, right=range(1, len(titles)))


def _workers(now: SystemStatus) -> Iterator[str]:
    """Yield a line for each worker and one for each of its devices."""
    present = {worker.name: worker for stage in now.stages.values() for worker in stage.workers}
    present |= {worker.name: worker for worker in now.webhooks.workers}
    longest = max(map(len, present), default=0)
    for name, worker in present.items():
        yield output.printable(f"{name:<{longest}}  {', '.join(worker.stages)} since {output.clock(worker.since)}")
        if worker.paused:
            yield output.printable(f"{PAUSED}{worker.paused}")
        yield from (output.printable(f"  {device}") for device in _devices(worker))
    if present:
        yield ""


def _remarks(now: SystemStatus) -> Iterator[str]:
    yield f"waited, worked: median / 95th percentile of the last {TIMINGS} jobs"
    yield f"{now.unfinished} jobs not finished; {now.handoff_bytes / 1e6:.1f} MB of audio in the handoff store"
    webhooks, spent = now.webhooks, now.enrichment
    if webhooks.undelivered or webhooks.depth.dead:
        pending = f"{webhooks.undelivered} jobs have webhooks to deliver, {webhooks.depth.dead} were given up"
        yield f"{pending}; `voicemill webhook list` shows the receivers"
    if spent["requests"]:
        tokens = f"{spent['input_tokens']:,} tokens in, {spent['output_tokens']:,} out"
        unpriced = f"; requests without a price: {spent['unpriced_requests']}" if spent["unpriced_requests"] else ""
        failures = f", {spent['failures']} of them failed" if spent["failures"] else ""
        yield f"Gemini today (UTC): {spent['summaries']} summaries of {spent['requests']} requests{failures}; {tokens}"
        yield f"Gemini today, estimated: {spent['cost_usd']:.4f} USD{unpriced}"
    for name in now.unattended:
        what = "webhook queue: deliveries wait" if name == WEBHOOK else f"{name} stage: jobs wait"
        yield f"No live worker consumes the {what} until one is started."


def _devices(worker: Worker) -> Iterator[str]:
    if worker.device and not worker.gpus:
        yield worker.device
    for gpu in worker.gpus:
        used, total = (_or_dash(gpu[name] and round(gpu[name] / 2**30, 1)) for name in ("memory_used", "memory_total"))
        busy, degrees = _or_dash(gpu["utilisation"]), _or_dash(gpu["temperature"])
        yield f"{gpu['name']}: {used} of {total} GiB, {busy} %, {degrees} °C"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value}"


def _pair(of: Percentiles) -> str:
    return "" if of.p50 is None or of.p95 is None else f"{_seconds(of.p50)} / {_seconds(of.p95)}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"  # large values need no hundredths
