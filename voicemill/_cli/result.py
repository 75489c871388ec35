"""`result`: print a job's record or its transcript."""

from __future__ import annotations

import argparse
from contextlib import suppress

from voicemill._cli import output, parsing
from voicemill.client import Client


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", help="the job's id, as decode.send() or submit returned it")
    output.add_format(parser)
    parser.add_argument("--wait", type=parsing.duration, metavar="SECONDS", help="wait so long for the job to end")


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Print the job as it is now, or once it has ended."""
    if arguments.wait is not None:
        with suppress(TimeoutError):
            client.wait(arguments.id, arguments.wait)
    return output.show(client.get(arguments.id), arguments.format)
