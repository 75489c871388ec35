"""`dead`: list, show, retry or drop dead letters, the messages whose work failed for good."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Sequence

from voicemill._cli import exits, output, parsing
from voicemill.client import Client
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.lifecycle import QUEUES
from voicemill.store.queue import NO_RECORD, DeadLetter, Queues

HOUR = 3600.0  # seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("list", "show", "retry", "drop"), help="what to do with those that match")
    parser.add_argument("id", metavar="ID", nargs="*", help="only these jobs (all)")
    parser.add_argument("--stage", choices=QUEUES, help="only those that failed in this stage")
    parser.add_argument("--code", type=_code, metavar="CODE", help="only those with this code, such as undecodable")
    parser.add_argument(
        "--older", type=parsing.duration, metavar="HOURS", help="only those that failed longer ago than this"
    )
    parser.add_argument("--newer", type=parsing.duration, metavar="HOURS", help="only those that failed since")
    parser.add_argument("--all", action="store_true", help="retry or drop everything that matches")


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Do it; 2 if `retry` or `drop` would take everything without `--all`, 4 if a job has no dead letter that matches.

    1 if some could not be retried.
    """
    queues = client.store.queues
    chosen = _chosen(arguments, queues)
    limits = (arguments.stage, arguments.code, arguments.older, arguments.newer)
    narrowed = arguments.id or any(limit is not None for limit in limits)
    if arguments.action in ("retry", "drop") and not narrowed and not arguments.all:
        print(f"{len(chosen)} dead letters match: narrow them down, or add --all", file=sys.stderr)
        return exits.USAGE
    code = exits.DONE
    if arguments.action == "list":
        _list(chosen)
    elif arguments.action == "show":
        print(json.dumps([_described(client, letter) for letter in chosen], ensure_ascii=False, indent=2))
    elif arguments.action == "drop":
        for letter in chosen:
            queues.drop(letter)
        print(f"{len(chosen)} dropped")
    else:
        code = retry(queues, chosen)
    unknown = set(arguments.id) - {letter.job_id for letter in chosen}
    for job_id in sorted(unknown):
        print(f"no dead letter of job {job_id!r} matches", file=sys.stderr)
    return exits.UNKNOWN_JOB if unknown else code


def retry(queues: Queues, chosen: Sequence[DeadLetter]) -> int:
    """Retry dead letters until one is refused; return the exit code."""
    missed = 0
    for letter in chosen:
        try:
            queue = queues.retry(letter)
        except JobError as error:
            print(f"{letter.job_id}: not retried: {error.advice}")
            return exits.FAILED
        if queue is None:
            print(f"{letter.job_id}: its record is gone, or it has ended otherwise; drop it")
            missed += 1
        else:
            print(f"{letter.job_id}: queued for {queue}")
    return exits.FAILED if missed else exits.DONE


def _code(text: str) -> str:
    known = [*map(str, ErrorCode), NO_RECORD]
    if text in known:
        return text
    near = difflib.get_close_matches(text, known)
    hint = f"did you mean {' or '.join(near)}?" if near else "docs/reference/errors.md lists them"
    raise argparse.ArgumentTypeError(f"{text!r} is not an error code: {hint}")


def _chosen(arguments: argparse.Namespace, queues: Queues) -> list[DeadLetter]:
    now = time.time()
    return [
        letter
        for letter in queues.dead_letters(arguments.stage)
        if (not arguments.id or letter.job_id in arguments.id)
        and (arguments.code is None or letter.code == arguments.code)
        and (arguments.older is None or letter.at < now - arguments.older * HOUR)
        and (arguments.newer is None or letter.at > now - arguments.newer * HOUR)
    ]


def _list(chosen: Sequence[DeadLetter]) -> None:
    """Print two lines for each dead letter, uncut: ids are there to be copied."""
    for letter in chosen:
        print(output.printable(f"{letter.job_id}  {letter.stage}  {letter.code}"))
        print(f"    {output.clock(letter.at)}  {output.printable(letter.reason)}")
    if not chosen:
        print("no dead letters")


def _described(client: Client, letter: DeadLetter) -> dict[str, object]:
    try:
        record = client.get(letter.job_id).as_dict()
    except UnknownJob:
        record = None
    return {"job": letter.job_id, "stage": letter.stage, "at": letter.at, "code": letter.code, "record": record}
