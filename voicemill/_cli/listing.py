"""`list`: the jobs, newest first, in a table or as JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import sys

from voicemill._cli import exits, output, parsing
from voicemill.client import Client
from voicemill.job import Job
from voicemill.lifecycle import STATUSES

LIMIT = 20  # jobs: what a terminal shows at once


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--status", choices=tuple(map(str, STATUSES)), help="only jobs of this status")
    parser.add_argument(
        "--limit", type=parsing.count, default=LIMIT, metavar="N", help=f"at most so many jobs ({LIMIT})"
    )
    parser.add_argument("--before", metavar="ID", help="only jobs older than this one: the last id of the page before")
    parser.add_argument("--json", action="store_true", help="print the jobs' records as one JSON list")


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Print one page of jobs."""
    jobs = client.list(arguments.status, limit=arguments.limit, before=arguments.before)
    if arguments.json:
        print(json.dumps([job.as_dict() for job in jobs], ensure_ascii=False, indent=2))
        return exits.DONE
    for line in shown(jobs, shutil.get_terminal_size().columns if sys.stdout.isatty() else None):
        print(line)
    if len(jobs) == arguments.limit:
        status = f" --status {arguments.status}" if arguments.status else ""
        again = f"voicemill list{status} --limit {arguments.limit} --before {jobs[-1].id}"
        print(f"There may be more: {again}", file=sys.stderr)
    return exits.DONE


def shown(jobs: list[Job], columns: int | None = None) -> list[str]:
    """Return one line for each job below the titles.

    Args:
        jobs: the jobs.
        columns: of the terminal, to which the lines are cut; None: they are not.
    """
    if not jobs:
        return ["no jobs"]
    titles = ("id", "created", "status", "seconds", "what")
    rows = [(job.id, output.clock(job.created_at), str(job.status), _seconds(job), _summary(job)) for job in jobs]
    lines = output.table(titles, rows, right=(3,))
    return lines if columns is None else [output.shorten(line, columns) for line in lines]


def _seconds(job: Job) -> str:
    duration = None if job.audio is None else job.audio.duration
    return "" if duration is None else f"{duration:.1f}"


def _summary(job: Job) -> str:
    """Return what distinguishes a job: why it failed, its title, the first words, else its source."""
    if job.error is not None:
        return output.printable(f"{job.error.code}: {job.error.message}")
    title = None if job.enrichment is None else job.enrichment.title
    text = None if job.transcript is None else job.transcript.text
    name = job.metadata.get("filename") if isinstance(job.metadata, dict) else None
    return output.printable(output.shorten(str(title or text or name or job.source).strip(), 60))
