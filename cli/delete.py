"""`delete`: a job whose sender wants to be forgotten."""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", nargs="+", help="the id that decode.send() or submit gave")


def run(arguments: argparse.Namespace) -> int:
    """Delete each job: record, results, events, audio; a queued message is dropped when its turn comes."""
    for job_id in arguments.id:
        store.jobs.delete(job_id)
    return 0
