"""`cancel`: end jobs as `cancelled`."""

from __future__ import annotations

import argparse
import sys

from voicemill._cli import exits
from voicemill.client import Client


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", nargs="+", help="the job's id, as decode.send() or submit returned it")


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Cancel each job; 1 if one had ended already."""
    late = [job_id for job_id in arguments.id if not client.cancel(job_id)]
    for job_id in late:
        print(f"{job_id} had ended already: {client.get(job_id).status}", file=sys.stderr)
    return exits.FAILED if late else exits.DONE
