"""`dead`: messages whose work failed for good, to be looked at, tried again, or thrown away."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time

from rich.console import Console
from rich.text import Text

from actors import broker
from voicemill.errors import Refused, UnknownJob
from voicemill.lifecycle import QUEUES
from voicemill.store.queue import NO_RECORD, DeadLetter

HOUR = 3600.0  # seconds
UNKNOWN = 4  # exit code


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("list", "show", "retry", "drop"), help="what to do with the chosen ones")
    parser.add_argument("id", metavar="ID", nargs="*", help="only these jobs (all)")
    parser.add_argument("--stage", choices=QUEUES, help="only those that failed in this stage")
    parser.add_argument("--code", type=_code, metavar="CODE", help="only those with this code, such as undecodable")
    parser.add_argument("--older", type=float, metavar="HOURS", help="only those that died longer ago than this")
    parser.add_argument("--newer", type=float, metavar="HOURS", help="only those that died since")
    parser.add_argument("--all", action="store_true", help="with retry and drop: yes, all that match")


def run(arguments: argparse.Namespace) -> int:
    """Do it; 2 where `retry` or `drop` would take everything unasked, 4 for an id without a dead letter that matches.

    1 where some could not be retried.
    """
    chosen = _chosen(arguments)
    limits = (arguments.stage, arguments.code, arguments.older, arguments.newer)
    narrowed = arguments.id or any(limit is not None for limit in limits)
    if arguments.action in ("retry", "drop") and not narrowed and not arguments.all:
        print(f"{len(chosen)} dead letters match: narrow them down, or add --all")
        return 2
    code = 0
    if arguments.action == "list":
        _list(chosen)
    elif arguments.action == "show":
        print(json.dumps([_described(letter) for letter in chosen], ensure_ascii=False, indent=2))
    elif arguments.action == "drop":
        for letter in chosen:
            store.queues.drop(letter)
        print(f"{len(chosen)} dropped")
    else:
        code = _retry(chosen)
    unknown = [job_id for job_id in arguments.id if job_id not in {letter.job_id for letter in chosen}]
    for job_id in unknown:
        print(f"no dead letter of job {job_id!r} matches", file=sys.stderr)
    return UNKNOWN if unknown else code


def _code(text: str) -> str:
    if text in CODES or text == NO_RECORD:
        return text
    near = difflib.get_close_matches(text, CODES)
    hint = f"near it are {', '.join(near)}" if near else "docs/reference/errors.md has them all"
    raise argparse.ArgumentTypeError(f"{text!r} is no error code: {hint}")


def _chosen(arguments: argparse.Namespace) -> list[DeadLetter]:
    now = time.time()
    return [
        letter
        for letter in store.queues.dead_letters(arguments.stage)
        if (not arguments.id or letter.job_id in arguments.id)
        and (arguments.code is None or letter.code == arguments.code)
        and (arguments.older is None or letter.at < now - arguments.older * HOUR)
        and (arguments.newer is None or letter.at > now - arguments.newer * HOUR)
    ]


def _retry(chosen: list[DeadLetter]) -> int:
    missed = 0
    for letter in chosen:
        try:
            stage = broker.enqueue_again(letter)
        except Refused as error:
            print(f"{letter.job_id}: not retried: {error}")
            return 1
        if stage is None:
            print(f"{letter.job_id}: its record is gone, or it has ended otherwise; drop it")
            missed += 1
            continue
        print(f"{letter.job_id}: queued for {stage}")
    return 1 if missed else 0


def _list(chosen: list[DeadLetter]) -> None:
    """Print two lines a letter, which neither a narrow terminal nor a pipe cuts off: ids are there to be copied."""
    console = Console(soft_wrap=True)
    for letter in chosen:
        died = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.at))
        # As Text, which takes out what would steer a terminal: a reason may quote whoever sent the message.
        console.print(Text(f"{letter.job_id}  {letter.stage}  {letter.code}\n    {died}  {letter.reason}"))
    if not chosen:
        console.print("no dead letters")


def _described(letter: DeadLetter) -> dict[str, object]:
    try:
        record = store.jobs.get(letter.job_id).as_dict()
    except UnknownJob:
        record = None
    return {"job": letter.job_id, "stage": letter.stage, "at": letter.at, "code": letter.code, "record": record}
