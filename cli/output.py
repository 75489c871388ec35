"""How a job is shown: on standard output in the format that was asked for, and its way there on standard error."""

from __future__ import annotations

import argparse
import json
import sys

from voicemill import render
from voicemill.job import Job

FORMATS = ("json", "txt", "srt", "vtt")
UNFINISHED = 5  # exit code


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add `--format`."""
    parser.add_argument(
        "--format", choices=FORMATS, default="txt", help="json: the job record; txt, srt, vtt: the transcript (txt)"
    )


def show(job: Job, form: str) -> int:
    """Print a job and return the exit code that its status means: 0 done, 1 failed or cancelled, 5 not finished."""
    if form == "json":
        print(json.dumps(job.as_dict(), ensure_ascii=False, indent=2))
    elif job.transcript is not None:
        print(render.render(job.transcript, form), end="")
    if form != "json":
        for line in remarks(job):
            print(line, file=sys.stderr)
    if job.ended:
        return 0 if job.status == "done" else 1
    return UNFINISHED


def remarks(job: Job) -> list[str]:
    """Return what there is to say about a job beside its transcript, a sentence each."""
    lines = []
    if not job.ended:
        lines.append(f"{job.id} is {job.status}, not finished")
    if job.transcript is not None and job.transcript.get("no_speech"):
        lines.append("no speech was found in it: the transcript is empty")
    if job.status == "cancelled":
        lines.append(f"{job.id} was cancelled")
    for error in filter(None, (job.error, job.enrichment_error)):
        where = f" in {error['stage']}" if "stage" in error else ""
        lines.append(f"{error['code']}{where}: {error['message']}. {error['remedy']}")
    return lines
