"""Bare `dramatiq actors`, without a stage's name: load the stages that `-Q` asks for, or say which command was meant.

A worker without its queue's actor would call itself ready and idle for ever.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys

from voicemill.lifecycle import QUEUES

USAGE = 2  # exit code


def load_stages() -> None:
    """Import the stages named by `-Q` if this process is a worker of `dramatiq actors`; else do nothing.

    Raises:
        SystemExit: 2, if no stage is named or one does not exist.
    """
    from dramatiq import cli  # noqa: PLC0415 - only a worker gets here, and it has loaded the module

    if multiprocessing.parent_process() is None:
        return
    arguments = cli.make_argument_parser().parse_args()
    if arguments.broker.partition(":")[0] != "actors":
        return
    unknown = [queue for queue in arguments.queues or () if queue not in QUEUES]
    if unknown or not arguments.queues:
        wrong = f"there is no stage {unknown[0]!r}" if unknown else "no stage is named"
        commands = ", ".join(f"`dramatiq actors.{stage}`" for stage in QUEUES)
        print(f"dramatiq actors: {wrong}. Run one of {commands}, or name stages with -Q.", file=sys.stderr)  # noqa: T201
        raise SystemExit(USAGE)
    for stage in arguments.queues:
        importlib.import_module(f"actors.{stage}")
