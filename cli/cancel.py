"""`cancel`: a job that nobody wants any more."""

from __future__ import annotations

import argparse
import sys


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", nargs="+", help="the id that decode.send() or submit gave")


def run(arguments: argparse.Namespace) -> int:
    """Cancel each job; 1 where one had ended already."""
    late = [job_id for job_id in arguments.id if not store.jobs.cancel(job_id)]
    for job_id in late:
        print(f"{job_id} had ended already: {store.jobs.get(job_id).status}", file=sys.stderr)
    return 1 if late else 0
