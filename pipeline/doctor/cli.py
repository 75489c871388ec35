"""`python -m pipeline doctor`: the examination as a command."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import signal
import sys
from typing import List, Optional

from config import environment
from pipeline.doctor import render, troubleshooting
from pipeline.doctor.box import DEVICES
from pipeline.doctor.examination import STAGES, diagnose
from pipeline.doctor.findings import CHECKS, LANGUAGES

FIT, UNFIT, INTERRUPTED = 0, 1, 130  # exit codes; argparse itself ends with 2 for a usage error


def main(argv: List[str]) -> int:
    """Examine this machine, print the report, and return the exit code: 0 fit, 1 not."""
    arguments = _parser().parse_args(argv)
    language = arguments.lang or locale_language()
    if arguments.document:
        _write(troubleshooting.document())
        return FIT
    environment.load(strict=False)  # the children see what the workers would
    if os.environ.get("LOG_LEVEL", "").lower() == "debug":
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, format="%(relativeCreated)5d ms  %(message)s")
    signal.signal(signal.SIGTERM, _end)
    try:
        report = diagnose(
            arguments.stage,
            arguments.device,
            canary=arguments.canary,
            interpreter=arguments.python,
            only=arguments.only,
        )
        if arguments.json:
            _write(json.dumps(report.as_dict(language), ensure_ascii=False, indent=2) + "\n")
        else:
            colours = render.has_colours(sys.stdout)
            _write(render.text(report, language, colours=colours, verbose=arguments.verbose))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left: nothing more can be said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"The report cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return UNFIT
    return FIT if report.ok else UNFIT


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def locale_language() -> str:
    """Return the language that the environment asks for: Korean, else English."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return "ko" if value.lower().startswith("ko") else "en"
    return "en"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline doctor",
        description="Check this machine and say which command mends it. It needs nothing but a Python.",
        epilog="exit codes: 0 no check failed, 1 at least one did, 2 wrong usage",
    )
    parser.add_argument("--stage", choices=tuple(STAGES), help="judge what this stage needs, not all")
    parser.add_argument("--device", choices=DEVICES, help="what the workers are to run on (WHISPER_DEVICE, else auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--canary", action="store_true", help="run the configured model on a second of speech, too")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the report (LANG, else en)")
    parser.add_argument("--verbose", action="store_true", help="show the evidence of what passed, too")
    parser.add_argument("--only", action="append", choices=tuple(CHECKS), help="run this check alone; repeatable")
    parser.add_argument("--python", help="the workers' Python (the virtual environment's)")
    parser.add_argument("--document", action="store_true", help=argparse.SUPPRESS)  # makes docs/troubleshooting.md
    return parser


def _write(text: str) -> None:
    """Write UTF-8, whatever a bare machine's locale thinks of Korean."""
    if sys.stdout is None:  # closed before we began
        return
    sys.stdout.flush()
    buffer: Optional[object] = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(text)
    else:
        sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.flush()
