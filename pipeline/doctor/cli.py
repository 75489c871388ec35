"""The command `python -m pipeline doctor`."""

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
from pipeline.doctor.examination import STAGES, diagnose
from pipeline.doctor.findings import CHECKS, LANGUAGES
from pipeline.doctor.machine import DEVICES

FIT, UNFIT, INTERRUPTED = 0, 1, 130  # exit codes; argparse itself ends with 2 for a usage error


def main(argv: List[str]) -> int:
    """Check this machine, print the report and return the exit code: 0 if no check failed, else 1."""
    arguments = _parser().parse_args(argv)
    language = arguments.lang or locale_language()
    if arguments.document:
        _write(troubleshooting.document())
        return FIT
    environment.load(strict=False)  # child processes need the variables that the workers see
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
    except BrokenPipeError:  # nobody reads our output any more
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
    """Return the language of the locale: `ko` or, for any other, `en`."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return "ko" if value.lower().startswith("ko") else "en"
    return "en"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline doctor",
        description="Check this machine and show the command that fixes each problem. Needs only Python 3.8 or later.",
        epilog="exit codes: 0 no check failed, 1 at least one failed, 2 invalid usage",
    )
    parser.add_argument("--stage", choices=tuple(STAGES), help="check what this stage needs instead of everything")
    parser.add_argument("--device", choices=DEVICES, help="device of the workers (default: WHISPER_DEVICE, else auto)")
    parser.add_argument("--json", action="store_true", help="print the report as a JSON object")
    parser.add_argument("--canary", action="store_true", help="also run the configured model on a second of speech")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the report (default: LANG, else en)")
    parser.add_argument("--verbose", action="store_true", help="also show the evidence of checks that passed")
    parser.add_argument("--only", action="append", choices=tuple(CHECKS), help="run only this check; repeatable")
    parser.add_argument("--python", help="Python of the workers (default: that of the virtual environment)")
    parser.add_argument("--document", action="store_true", help=argparse.SUPPRESS)  # generates docs/troubleshooting.md
    return parser


def _write(text: str) -> None:
    """Write UTF-8 whatever the locale is, since a bare machine's may not encode Korean."""
    if sys.stdout is None:  # it was closed at the start
        return
    sys.stdout.flush()
    buffer: Optional[object] = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(text)
    else:
        sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.flush()
