"""The command line: `python -m pipeline COMMAND`. Each command is a module of its own, imported when it is called.

The grammar is Python 3.8's and nothing but the standard library is imported, so that the doctor runs on a bare machine.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys

DONE, FAILED, USAGE, NO_REDIS, UNKNOWN_JOB, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130  # exit codes

UNWRITABLE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ENOSPC,
    errno.EROFS,
)  # what a disk answers, and no fault of ours

COMMANDS = {
    "up": "run every stage here, with an embedded Redis unless REDIS_URL is set",
    "demo": "send one voice message through all stages and show what comes out",
    "submit": "send a voice message to the workers",
    "result": "print a job's record or its transcript",
    "status": "show the stages, their workers and queues; exit code 1 where a stage has no worker",
    "dead": "list, show, retry or drop messages whose work failed for good",
    "web": "open the door for those who have no Python: HTTP, as OpenAI's clients speak it, too",
    "webhook": "try a receiver of webhooks, see which ones fail, make a secret",
    "enrich": "write the summary of a done job again, from its stored transcript",
    "cancel": "end a job",
    "delete": "remove every trace of a job",
    "doctor": "check this machine and say which command mends it",
    "model": "fetch the configured Whisper model",
    "settings": "print the effective settings",
}

EXIT_CODES = """exit codes: 0 done, 1 failed or cancelled, 2 wrong usage or settings, 3 Redis cannot be reached,
            4 unknown job, 5 not finished in time"""


def main(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    if argv[:1] == ["doctor"]:
        if sys.version_info < (3, 8):
            raise SystemExit(f"python -m pipeline doctor: needs Python 3.8 or later, this is {sys.version.split()[0]}")
        from pipeline import doctor

        return int(doctor.main(argv[1:]))
    try:
        code = _run(argv)
        if sys.stdout is not None:  # closed before we began
            sys.stdout.flush()  # what fails now is told, and not by the interpreter at its end
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left: nothing more can be said to it
        return FAILED
    except Exception as error:
        known = _explained(error)
        if known is None:
            raise
        line, code = known
        print(line, file=sys.stderr)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # our output has no place: what is left of it goes nowhere
    return int(code)


def _run(argv: list[str]) -> int:
    """Read the command line and run the command that it names."""
    from config import environment

    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Voice messages in, transcripts and structured summaries out.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    module = None
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == chosen:
            environment.load()
            module = _load(name)
            module.configure(command)
    arguments = parser.parse_args(argv)
    from config import logging

    logging.configure("warning", "console")
    return int(module.run(arguments))  # type: ignore[union-attr]  # it was loaded, or the parser has ended us


def _load(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a module with `configure` and `run`
    """Import a command's module, or say what is missing."""
    if sys.version_info < (3, 11):
        raise SystemExit(f"python -m pipeline {name}: needs Python 3.11 or later, this is {sys.version.split()[0]}")
    # Nothing has begun that wants an orderly end, and an exception amid an import may be printed and forgotten.
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        return importlib.import_module(f"cli.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("pipeline", "actors", "config"):
            raise
        raise SystemExit(
            f"python -m pipeline {name}: the package {error.name} is not installed here.\n"
            "Run `make install` and use .venv/bin/python."
        ) from None
    finally:
        signal.signal(signal.SIGINT, before)


def _explained(error: Exception):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the grammar of Python 3.8
    """Return the line that tells of what went wrong outside of a command, and its exit code; None: a fault of ours."""
    from config import environment

    if isinstance(error, environment.DotenvError):
        return str(error), USAGE
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return f"{error.filename or 'The output'}: {error.strerror}", FAILED
    import redis

    from config import settings
    from voicemill.errors import ErrorCode, JobError, UnknownJob
    from voicemill.store import connection

    if isinstance(error, redis.RedisError):
        place = settings.mask_url(connection.parameters(store.config)[0])
        return f"Redis at {place} {store.refusal(error) or f'cannot be used: {error}'}", NO_REDIS
    if isinstance(error, JobError):
        return f"{error}. {ErrorCode(error.code).remedy}", USAGE if error.code == "invalid_settings" else FAILED
    codes = {settings.SettingsError: USAGE, UnknownJob: UNKNOWN_JOB, TimeoutError: UNFINISHED}
    return next(((str(error), code) for kind, code in codes.items() if isinstance(error, kind)), None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
