"""What several commands print: a job in a chosen format, remarks on it, and plain-text tables.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TextIO

from voicemill._cli import exits
from voicemill.job import Job
from voicemill.lifecycle import Status
from voicemill.transcript import FORMATS

GAP = "  "  # between two columns


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add `--format`."""
    parser.add_argument(
        "--format", choices=FORMATS, default="txt", help="json: the job's record; txt, srt, vtt: the transcript (txt)"
    )


def show(job: Job, format: str) -> int:  # noqa: A002 - the name of the option
    """Print a job and return the exit code of its status: 0 done, 1 failed or cancelled, 5 not finished."""
    if format == "json":
        print(json.dumps(job.as_dict(), ensure_ascii=False, indent=2))
    elif job.transcript is not None:
        print(job.transcript.render(format), end="")
    if format != "json":
        for line in remarks(job):
            print(line, file=sys.stderr)
    if job.ended:
        return exits.DONE if job.status == Status.DONE else exits.FAILED
    return exits.UNFINISHED


def remarks(job: Job) -> list[str]:
    """Return what there is to say about a job besides its transcript, one sentence each."""
    lines = []
    if not job.ended:
        lines.append(f"{job.id} is {job.status}, not finished")
    if job.transcript is not None and job.transcript.no_speech:
        lines.append("no speech was found: the transcript is empty")
    if job.status == Status.CANCELLED:
        lines.append(f"{job.id} was cancelled")
    for error in filter(None, (job.error, job.enrichment_error)):
        where = f" in {error.stage}" if error.stage else ""
        lines.append(printable(f"{error.code}{where}: {error.message}. {error.remedy}"))
    return lines


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    """Return the lines of a table.

    Args:
        titles: of the columns.
        rows: the cells, one for each column.
        right: numbers of the columns that are aligned to the right.
    """
    lines = [tuple(titles), *map(tuple, rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    to_the_right = set(right)

    def cell(number: int, text: str) -> str:
        blank = " " * (widths[number] - width(text))
        return blank + text if number in to_the_right else text + blank

    return [GAP.join(cell(number, text) for number, text in enumerate(line)).rstrip() for line in lines]


def beside(left: Sequence[str], right: Sequence[str], columns: int) -> list[str]:
    """Return two blocks of as many lines beside each other, or below each other if `columns` are too few."""
    gap = GAP * 2
    widest = max(map(width, left))
    if widest + len(gap) + max(map(width, right)) > columns:
        return [*left, "", *right]
    return [f"{one}{' ' * (widest - width(one))}{gap}{other}" for one, other in zip(left, right, strict=True)]


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes: Korean and Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def shorten(text: str, columns: int) -> str:
    """Return a text that takes at most so many columns, with an ellipsis if it was cut."""
    if width(text) <= columns:
        return text
    kept = ""
    for character in text:
        if width(kept + character) > columns - 1:
            break
        kept += character
    return f"{kept}…"


def printable(text: str) -> str:
    """Return a text without what could control the terminal: a message may quote whoever sent the job."""
    return "".join(character if character.isprintable() else " " for character in text)


def clock(at: float) -> str:
    """Return a moment (Unix seconds) in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def coloured(stream: TextIO) -> bool:
    """Return whether a stream shows colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def red(text: str) -> str:
    """Return a text that a terminal shows in red."""
    return f"\x1b[31m{text}\x1b[0m"
