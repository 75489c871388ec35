"""`status`: the stages as they are now, in a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import redis
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from voicemill import status
from voicemill.lifecycle import WEBHOOK
from voicemill.status import Percentiles, Status
from voicemill.store.jobs import TIMINGS
from voicemill.store.workers import Worker

EVERY = 2.0  # seconds between two looks with --watch


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, with --watch one a line")
    parser.add_argument("--watch", action="store_true", help="look again every two seconds, until Ctrl-C")


def run(arguments: argparse.Namespace) -> int:
    """Show the status; 1 where a stage has no worker."""
    now = status.read(store)
    if arguments.watch and arguments.json:
        _follow(now, lambda seen: print(json.dumps(seen.as_dict()), flush=True))
    elif arguments.watch:
        with Live(shown(now), screen=False) as live:
            _follow(now, lambda seen: live.update(shown(seen)))
    elif arguments.json:
        print(json.dumps(now.as_dict(), indent=2))
    else:
        Console().print(shown(now))
    return 1 if now.unattended else 0


def _follow(now: Status, show: Callable[[Status], None]) -> NoReturn:
    """Show the status again and again; a Redis that is away for a while only holds it up."""
    show(now)
    while True:
        time.sleep(EVERY)
        try:
            show(status.read(store))
        except redis.RedisError as error:
            print(f"Redis cannot be used, waiting: {error}", file=sys.stderr)


def shown(now: Status) -> Group:
    """Return the status: two tables, beside each other where the terminal has room for it, workers and remarks."""
    return Group(Columns([_queues(now), _times(now)], padding=(1, 4)), "", *_workers(now), *_remarks(now))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True, padding=(0, 2), header_style="bold underline")
    table.add_column("stage")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _queues(now: Status) -> Table:
    table = _table("workers", "waiting", "working", "delayed", "dead")
    rows = {name: (stage.workers, stage.depth) for name, stage in now.stages.items()}
    for name, (workers, depth) in (rows | {WEBHOOK: (now.webhooks.workers, now.webhooks.depth)}).items():
        count = "[red]none[/red]" if name in now.unattended else str(len(workers))
        table.add_row(name, count, *map(str, (depth.waiting, depth.in_progress, depth.delayed, depth.dead)))
    return table


def _times(now: Status) -> Table:
    table = _table("oldest (s)", "done/min", "waited (s)", "worked (s)")
    for name, stage in now.stages.items():
        oldest = "" if stage.oldest_waiting is None else _seconds(stage.oldest_waiting)
        table.add_row(name, oldest, str(stage.done_last_minute), _pair(stage.wait), _pair(stage.work))
    return table


def _workers(now: Status) -> Iterator[Text]:
    """Yield a line for each worker and one for each of its devices; what is longer than the terminal goes on below."""
    present = {worker.name: worker for stage in now.stages.values() for worker in stage.workers}
    present |= {worker.name: worker for worker in now.webhooks.workers}
    longest = max(map(len, present), default=0)
    for name, worker in present.items():
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(worker.since))
        yield Text(f"{name:<{longest}}  {', '.join(worker.stages)} since {since}")
        if worker.paused:
            yield Text(f"  paused: {worker.paused}", style="red")
        yield from (Text(f"  {device}") for device in _devices(worker))
    if present:
        yield Text()


def _remarks(now: Status) -> Iterator[str]:
    yield f"waited, worked: median / 95th percentile of the last {TIMINGS} jobs"
    yield f"{now.unfinished} jobs not finished; {now.handoff_bytes / 1e6:.1f} MB of audio in the handoff store"
    told, spent = now.webhooks, now.enrichment
    if told.undelivered or told.depth.dead:
        undelivered = f"{told.undelivered} jobs have webhooks to deliver, {told.depth.dead} were given up"
        yield f"{undelivered}; `python -m pipeline webhook list` says to whom"
    if spent["requests"]:
        tokens = f"{spent['input_tokens']:,} tokens in, {spent['output_tokens']:,} out"
        unpriced = f"; requests without a price: {spent['unpriced_requests']}" if spent["unpriced_requests"] else ""
        failures = f", {spent['failures']} of them failed" if spent["failures"] else ""
        yield f"Gemini today (UTC): {spent['summaries']} summaries of {spent['requests']} requests{failures}; {tokens}"
        yield f"Gemini today, estimated: {spent['cost_usd']:.4f} USD{unpriced}"
    for name in now.unattended:
        what = "webhook queue: they wait" if name == WEBHOOK else f"{name} stage: jobs wait"
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
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"  # what is large needs no hundredths
