"""`submit`: send a voice message to the workers, as a backend does."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import Field
from pathlib import Path
from typing import Any

from voicemill import options
from voicemill._cli import exits, output, parsing, progress
from voicemill.client import Client
from voicemill.errors import Refused

PREFIX = "option:"  # of the parsed names of a job's options, which no argument of the command can have


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments, among them the options of a job."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("source", metavar="SOURCE", nargs="?", help="a path on the workers' machines, or a URL")
    source.add_argument("--upload", metavar="FILE", type=Path, help="send the bytes of this local file instead")
    for name, field in options.TABLE.items():
        _add_option(parser, name, field)
    parser.add_argument("--wait", action="store_true", help="wait until the job has ended and print its result")
    parser.add_argument("--timeout", type=parsing.duration, metavar="SECONDS", help="with --wait: wait at most so long")
    output.add_format(parser)


def run(arguments: argparse.Namespace, client: Client) -> int:
    """Send the message and print its job's id, or with `--wait` its result."""
    found = {name: getattr(arguments, PREFIX + name) for name in options.TABLE}
    if arguments.timeout is not None and not arguments.wait:
        print("--timeout needs --wait", file=sys.stderr)
        return exits.USAGE
    chosen = {name: value for name, value in found.items() if value is not None}
    try:
        if arguments.upload:
            job = client.send_file(arguments.upload, **chosen)
        else:
            job = client.send(arguments.source, **chosen)
    except Refused as error:
        print(f"not sent: {error.advice}", file=sys.stderr)
        return exits.of(error.code)
    except OSError as error:  # of the local file
        print(f"not sent: {error}", file=sys.stderr)
        return exits.USAGE
    if arguments.wait:
        try:
            progress.follow(client, job.id, arguments.timeout)
        except KeyboardInterrupt:
            print(f"The job goes on: voicemill result {job.id}, or voicemill cancel {job.id}", file=sys.stderr)
            raise
        return output.show(client.get(job.id), arguments.format)
    if arguments.format == "json":
        output.show(job, "json")
    else:
        print(job.id)
    return exits.DONE


def _add_option(parser: argparse.ArgumentParser, name: str, field: Field[Any]) -> None:
    known = options.rules(name)
    flag, target = name.replace("_", "-"), PREFIX + name
    if isinstance(known.kind, options.Flag):
        if field.default:
            parser.add_argument(
                f"--no-{flag}", dest=target, action="store_const", const=False, help=f"do not {known.help}"
            )
        else:
            parser.add_argument(f"--{flag}", dest=target, action="store_const", const=True, help=known.help)
        return
    kinds: dict[type, Any] = {options.Integer: int, options.Document: _json}
    parser.add_argument(
        f"--{flag}",
        dest=target,
        type=kinds.get(type(known.kind), str),
        # A long list would bury the error message; `options.parse` names an example instead.
        choices=known.kind.values if isinstance(known.kind, options.Choice) and not known.kind.example else None,
        metavar=known.metavar or None,
        help=known.help,
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"it must be JSON: {error}") from None
