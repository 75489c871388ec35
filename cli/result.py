"""`result`: what became of a job."""

from __future__ import annotations

import argparse

from cli import output


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", help="the id that decode.send() or submit gave")
    output.add_format(parser)
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait that long for the job to end")


def run(arguments: argparse.Namespace) -> int:
    """Print the job as it is now, or as it ends."""
    if arguments.wait is not None:
        try:
            return output.show(store.jobs.wait(arguments.id, arguments.wait), arguments.format)
        except TimeoutError:
            pass
    return output.show(store.jobs.get(arguments.id), arguments.format)
