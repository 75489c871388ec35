"""`status`: the stages as they are now, in a table or as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from pipeline import presence, queues, status
from pipeline.status import Percentiles, Status

EVERY = 2.0  # seconds between two looks with --watch


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--watch", action="store_true", help="look again every two seconds, until Ctrl-C")


def run(arguments: argparse.Namespace) -> int:
    """Show the status; 1 where a stage has no worker."""
    now = status.read()
    if arguments.json:
        print(json.dumps(now.as_dict(), indent=2))
    elif not arguments.watch:
        Console().print(shown(now))
    else:
        with Live(shown(now), screen=False) as live:
            while True:
                time.sleep(EVERY)
                now = status.read()
                live.update(shown(now))
    return 1 if now.unattended else 0


def shown(now: Status) -> Group:
    """Return the status as tables."""
    stages = Table(
        "stage", "workers", "waiting", "in hand", "oldest (s)", "delayed", "dead", "last minute", "wait p50/p95 (s)",
        "work p50/p95 (s)",
    )  # fmt: skip
    workers = Table("worker", "stages", "since", "device")
    present: dict[str, presence.Worker] = {}
    for name, stage in now.stages.items():
        oldest = "" if stage.oldest_waiting is None else f"{stage.oldest_waiting:.1f}"
        counts = (stage.depth.waiting, stage.depth.in_progress, oldest, stage.depth.delayed, stage.depth.dead)
        count = str(len(stage.workers)) if stage.workers else "[red]none[/red]"
        row = (name, count, *counts, stage.done_last_minute, _pair(stage.wait), _pair(stage.work))
        stages.add_row(*map(str, row))
        present |= {worker.name: worker for worker in stage.workers}
    present |= {worker.name: worker for worker in now.webhooks.workers}
    for worker in present.values():
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(worker.since))
        workers.add_row(worker.name, ", ".join(worker.stages), since, "\n".join(_devices(worker)))
    lines = [f"{now.unfinished} jobs not finished; {now.handoff_bytes / 1e6:.1f} MB of audio between the stages"]
    told = now.webhooks
    if told.undelivered or told.depth.dead:
        undelivered = f"{told.undelivered} jobs have webhooks to deliver, {told.depth.dead} were given up"
        lines.append(f"{undelivered}; `python -m pipeline webhook list` says to whom")
    for name in now.unattended:
        what = "webhook queue: they wait" if name == queues.WEBHOOK else f"{name} stage: jobs wait"
        lines.append(f"No live worker consumes the {what} until one is started.")
    return Group(stages, workers, *lines)


def _devices(worker: presence.Worker) -> Iterator[str]:
    yield worker.device
    for gpu in worker.gpus:
        used, total = (_or_dash(gpu[name] and round(gpu[name] / 2**30, 1)) for name in ("memory_used", "memory_total"))
        busy, degrees = _or_dash(gpu["utilisation"]), _or_dash(gpu["temperature"])
        yield f"{gpu['name']}: {used} of {total} GiB, {busy} %, {degrees} °C"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value}"


def _pair(of: Percentiles) -> str:
    return "" if of.p50 is None or of.p95 is None else f"{of.p50:.2f} / {of.p95:.2f}"
