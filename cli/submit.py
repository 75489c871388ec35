"""`submit`: a voice message from the shell into the queue, as a backend would send it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import redis

from cli import output, progress
from voicemill import decode
from voicemill.errors import JobError, Refused

# exit code by the reason for which nothing was sent
EXIT = {"invalid_options": 2, "invalid_settings": 2}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("source", metavar="SOURCE", nargs="?", help="as the workers see it: a path, an address")
    source.add_argument("--upload", metavar="FILE", type=Path, help="send this local file's bytes instead")
    parser.add_argument("--language", metavar="CODE", help="what is spoken, such as ko (detected)")
    parser.add_argument("--task", help="transcribe, or translate to English (transcribe)")
    parser.add_argument("--prompt", help="text that precedes the message: names, spelling, style")
    parser.add_argument("--hotwords", help="words to listen for")
    parser.add_argument("--metadata", metavar="JSON", type=_json, help="handed back in the record")
    parser.add_argument("--callback-url", metavar="URL", help="an address that is told how the job ends")
    parser.add_argument("--word-timestamps", action="store_true", help="times of each word, too")
    parser.add_argument("--stream", type=int, metavar="N", help="which audio stream of several, from 0 (the default)")
    parser.add_argument("--dedupe", action="store_true", help="take the earlier transcript of the same message")
    parser.add_argument("--no-enrich", action="store_true", help="transcript only, no summary")
    parser.add_argument("--wait", action="store_true", help="wait for the end and print the result")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="with --wait: wait no longer than this")
    output.add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send the message; print its id, or with --wait its result."""
    names = ("language", "task", "prompt", "hotwords", "stream", "metadata", "callback_url")
    options = {name: getattr(arguments, name) for name in names}
    options = {name: value for name, value in options.items() if value is not None}
    flags = {
        "word_timestamps": arguments.word_timestamps,
        "dedupe": arguments.dedupe,
        "enrich": not arguments.no_enrich,
    }
    try:
        if arguments.upload:
            job_id = send_file(arguments.upload, **options, **flags)
        else:
            job_id = decode.send(arguments.source, **options, **flags).message_id
    except (OSError, Refused) as error:
        if isinstance(error.__cause__, redis.RedisError):
            raise error.__cause__ from None  # told as with every other command
        print(f"not sent: {error}", file=sys.stderr)
        return EXIT.get(getattr(error, "code", "invalid_options"), 1)
    if not arguments.wait:
        if arguments.format == "json":
            output.show(store.jobs.get(job_id), "json")
        else:
            print(job_id)
        return 0
    progress.follow(job_id, arguments.timeout)
    return output.show(store.jobs.get(job_id), arguments.format)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"it takes JSON: {error}") from None


def send_file(file: Path, **keywords: Any) -> str:
    """Put a local file into the handoff store, send it to decode, and return the job's id.

    Raises:
        OSError: the file cannot be read.
        Refused: nothing was sent: it is too large, or the store is full.
    """
    try:
        with file.open("rb") as data, store.audio.uploaded(data) as source:
            return decode.send(source, **keywords).message_id
    except JobError as error:
        raise Refused(error) from None
