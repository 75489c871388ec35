"""The command `voicemill`.

The commands that need Redis alone are modules of this package: `configure(parser)` and `run(arguments, client)`. They
import the client and the standard library, since a client-only installation has nothing else. The others are in `cli/`
of a clone, with `run(arguments)`; they are imported only if this package lies in a clone.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from voicemill import __version__
from voicemill._cli import exits

ROOT = Path(__file__).resolve().parents[2]  # of the clone, if there is one


@dataclass(frozen=True, slots=True)
class Command:
    """A command: the module that it is in, and what it does in one phrase."""

    module: str
    summary: str

    @property
    def needs_clone(self) -> bool:
        """Whether a client-only installation lacks it."""
        return not self.module.startswith(f"{__name__}.")


COMMANDS = {
    "up": Command("cli.up", "run every stage here, with an embedded Redis unless REDIS_URL is set"),
    "demo": Command("cli.demo", "send one voice message through all stages and show the result"),
    "submit": Command("voicemill._cli.submit", "send a voice message to the workers"),
    "result": Command("voicemill._cli.result", "print a job's record or its transcript"),
    "list": Command("voicemill._cli.listing", "list jobs, newest first"),
    "status": Command(
        "voicemill._cli.status", "show the stages, their workers and queues; exit code 1 if a stage has no worker"
    ),
    "dead": Command("voicemill._cli.dead", "list, show, retry or drop dead letters, whose work failed for good"),
    "cancel": Command("voicemill._cli.cancel", "end jobs as cancelled"),
    "delete": Command("voicemill._cli.delete", "remove every trace of jobs"),
    "web": Command("cli.web", "serve the HTTP API and the dashboard"),
    "webhook": Command("cli.webhook", "test a receiver of webhooks, list failing ones, generate a secret"),
    "enrich": Command("cli.enrich", "write the summary of a finished job again, from its stored transcript"),
    "doctor": Command("cli.doctor", "check this machine and print the command that fixes it"),
    "model": Command("cli.model", "download the configured Whisper model"),
    "settings": Command("cli.settings", "print the effective settings"),
    "completion": Command("voicemill._cli.completion", "print a completion script for bash, zsh or fish"),
}


class MissingPackage(Exception):
    """A command needs a package that is not installed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the command line behind the program's name; None: the process's own.
    """
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:  # None: it was closed before the program started
            sys.stdout.flush()  # here, so that an error is explained below and not by the interpreter at its end
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of the output is gone, so the interpreter's last flush would fail, too
        return exits.FAILED
    except Exception as error:
        known = _explain(error)
        if known is None:
            raise
        line, code = known
        print(line, file=sys.stderr)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # discard the rest of the output: flushing it would fail
    return code


def clone() -> Path | None:
    """Return the clone that this package lies in; None: the client alone is installed."""
    return ROOT if (ROOT / "Procfile").is_file() and (ROOT / "cli").is_dir() else None


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command that is installed here, with all its arguments."""
    found = {}
    for name, command in COMMANDS.items():
        if command.needs_clone and clone() is None:
            continue
        parser = argparse.ArgumentParser(prog=f"voicemill {name}")
        with suppress(MissingPackage):  # of an extra
            _load(name).configure(parser)
        found[name] = parser
    return found


def _run(words: list[str]) -> int:
    """Parse the command line and run the command that it names."""
    chosen = next((word for word in words if not word.startswith("-")), "")
    command = COMMANDS.get(chosen)
    if clone() is not None:
        _prepare()
    elif command is not None and command.needs_clone:
        print(
            f"voicemill {chosen} needs a clone of Voicemill or its image; only the client is installed here. "
            f"Run it there, as .venv/bin/voicemill {chosen}.",
            file=sys.stderr,
        )
        return exits.USAGE
    if words[:1] == ["doctor"]:  # it parses its arguments itself, since it has to run where nothing is installed
        return int(importlib.import_module("cli.doctor").main(words[1:]))
    arguments = _parser([chosen] if command else []).parse_args(words)
    if arguments.command == "completion":
        completion = _load("completion")
        print(completion.script(arguments.shell, parsers(), _summaries()), end="")
        return exits.DONE
    module = _load(arguments.command)
    if COMMANDS[arguments.command].needs_clone:
        importlib.import_module("cli").configure_logging()
        return int(module.run(arguments))
    from voicemill.client import Client  # noqa: PLC0415 - later than `--help`

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with Client() as client:
        return int(module.run(arguments, client))


def _parser(loaded: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the arguments of the `loaded` commands."""
    parser = argparse.ArgumentParser(
        prog="voicemill",
        description="Voice messages in, transcripts and structured summaries out.",
        epilog=exits.SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"voicemill {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in _summaries().items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=exits.SUMMARY,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in loaded:
            _load(name).configure(command)
    return parser


def _summaries() -> dict[str, str]:
    """Return what each command that is installed here does."""
    here = clone() is not None
    return {name: command.summary for name, command in COMMANDS.items() if here or not command.needs_clone}


def _load(name: str) -> ModuleType:
    """Import a command's module.

    Raises:
        MissingPackage: it needs a package that is not installed.
    """
    # Nothing has begun that needs an orderly end, and an exception in the middle of an import may get lost.
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(exits.INTERRUPTED))
    try:
        return importlib.import_module(COMMANDS[name].module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("voicemill", "config", "pipeline", "actors", "web", "cli"):
            raise
        advice = "Run `make install` and use .venv/bin/voicemill." if clone() else "Install it."
        raise MissingPackage(f"voicemill {name}: the package {error.name} is not installed here. {advice}") from None
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare() -> None:
    """Make the clone's packages importable and put its `.env` into the environment."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    importlib.import_module("cli").load_environment()


def _explain(error: Exception) -> tuple[str, int] | None:
    """Return the line that explains an error, and its exit code. None: the error is a bug."""
    if isinstance(error, MissingPackage):
        return str(error), exits.USAGE
    known = exits.explain(error)
    if known is None and clone() is not None:
        known = importlib.import_module("cli").explain(error)
    return known
