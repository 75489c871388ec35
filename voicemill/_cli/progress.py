"""A job's way through the stages, live, on standard error."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from voicemill.client import Client

CLEAR = "\r\x1b[2K"  # the line of the terminal that the cursor is in


def follow(client: Client, job_id: str, timeout: float | None = None, stream: TextIO | None = None) -> None:
    """Show each status as a job enters it, and how far its stage is, until the job has ended.

    A terminal gets one line that changes; a file or a pipe gets one line for each status.

    Args:
        client: of the job.
        job_id: the job.
        timeout: seconds; None: no limit.
        stream: where to write; None: standard error.

    Raises:
        UnknownJob: there is no such job.
        TimeoutError: it has not ended within `timeout` seconds.
    """
    out = stream or sys.stderr
    terminal = out.isatty()
    began, entered, shown = time.time(), 0.0, ""
    try:
        for event in client.events(job_id, timeout):
            if "progress" in event.detail:
                if terminal:
                    done, total = event.detail["progress"]["done"], event.detail["progress"]["total"]
                    _write(out, f"{CLEAR}{_line(entered, event.status)}  {done} of {total}")
            elif "retry" in event.detail:
                retry = event.detail["retry"]
                again = time.strftime("%H:%M:%S", time.localtime(retry["at"]))
                line = _line(event.at - began, f"{retry['code']}: retried at {again}")
                _write(out, f"{CLEAR}{line}\n" if terminal else f"{line}\n")
            elif event.status != shown:
                shown, entered = event.status, max(0.0, event.at - began)
                line = _line(entered, shown)
                _write(out, f"{CLEAR}{line}" if terminal else f"{line}\n")
    finally:
        if terminal:
            _write(out, CLEAR)


def _line(seconds: float, text: str) -> str:
    return f"  {seconds:6.1f} s  {text}"


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
