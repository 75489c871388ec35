"""`delete`: remove every trace of jobs."""

from __future__ import annotations

import argparse

from voicemill._cli import exits
from voicemill.client import Client


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", nargs="+", help="the job's id, as decode.send() or submit returned it")


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Delete each job: record, results, events, audio, upload and messages."""
    for job_id in arguments.id:
        client.delete(job_id)
    return exits.DONE
