"""Run FFmpeg's programs on files that may be hostile: limited in time, memory and disk, and killed as a group.

A program reads the file from its standard input, never by name, and does not see the worker's environment. Its
arguments (`FORBID`) keep it from opening anything else, including the network.
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from voicemill.errors import ErrorCode, JobError

# The containers of voice messages, by FFmpeg's names. None of them can refer to another file, as playlists, concat
# lists, image sequences and SDP do.
FORMATS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,wv"
# Standard input is opened by its path, so that FFmpeg can seek: M4A often has its index at the end.
FORBID = ("-protocol_whitelist", "file", "-format_whitelist", FORMATS)
INPUT = ("-i", "file:/dev/stdin")

# The kernel's parent-death signal, set by util-linux's setpriv: the program dies with the thread that waits for it,
# even if the worker is killed. Nor can it gain privileges through a set-user-ID program. Costs 2 ms.
PARENT_DEATH_SIGNAL = ("setpriv", "--pdeathsig", "KILL", "--no-new-privs", "--") if shutil.which("setpriv") else ()
_NOT_FOUND = 127  # exit code of setpriv, as of a shell, if the program does not exist
# FFmpeg's exit code after a SIGTERM, which a supervisor may send to the whole group. The file that it has written is
# valid but incomplete.
_TERMINATED = 255

MEMORY = 1024**3  # bytes of address space; the libraries of Debian's FFmpeg take 0.3 GiB
STDERR = 16 * 1024  # bytes of standard error that are kept: half from its beginning, half from its end
_PIECE = 64 * 1024  # bytes read from a pipe at a time
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, and the beginning of its standard output and standard error."""

    status: int  # exit code; negative: the signal that killed it
    output: bytes
    errors: str
    timed_out: bool


def run(
    command: list[str], source: BinaryIO, folder: Path, *, seconds: float, file_size: int = 0, keep: int = 1024**2
) -> Outcome:
    """Run a program in `folder` with `source` as its standard input and return how it ended.

    Args:
        command: the program and its arguments.
        source: the open file that it reads.
        folder: its working directory, the only place that it writes to.
        seconds: time limit, both of wall clock and of CPU time; then its whole process group is killed.
        file_size: largest file that it may write (bytes).
        keep: how much of its standard output is returned (bytes); the rest is discarded.

    Raises:
        JobError: `worker_unfit`: the program is not installed or could not be started.
    """
    deadline = time.monotonic() + seconds
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell, and nothing of the sender's among the arguments
            [*PARENT_DEATH_SIGNAL, *command],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise _missing(command) from None
    except OSError as error:
        raise JobError(ErrorCode.WORKER_UNFIT, f"{command[0]} could not be started: {error.strerror}") from error
    try:
        _limit(process.pid, seconds, file_size)
        output, errors, timed_out = _read(process, deadline, keep)
        if not timed_out:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        timed_out = process.poll() is None
    finally:  # also if the worker's thread is interrupted
        _kill(process)
    if PARENT_DEATH_SIGNAL and process.returncode == _NOT_FOUND:
        raise _missing(command)
    return Outcome(process.returncode, output, errors, timed_out)


def _missing(command: list[str]) -> JobError:
    return JobError(ErrorCode.WORKER_UNFIT, f"{command[0]} is not installed on this worker: install ffmpeg")


def _limit(pid: int, seconds: float, file_size: int) -> None:
    # Set after the start, not between fork and exec: a preexec_fn would take longer than the program's own start.
    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        try:
            _, hard = resource.prlimit(pid, limit)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, limit, (bound, bound))
        except ProcessLookupError:  # it has ended already
            return


def _read(process: subprocess.Popen[bytes], deadline: float, keep: int) -> tuple[bytes, str, bool]:
    assert process.stdout  # noqa: S101 - both are pipes
    assert process.stderr  # noqa: S101
    output, first, last = bytearray(), bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(output), _text(first, last), True
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _PIECE)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk[: keep - len(output)]
                elif len(first) < STDERR // 2:
                    first += chunk
                else:
                    last = (last + chunk)[-STDERR // 2 :]
    return bytes(output), _text(first, last), False


def _text(first: bytearray, last: bytearray) -> str:
    return (first + last).decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def judge(outcome: Outcome, program: str, seconds: float) -> None:
    """Raise if a program ended for a reason that is not the file's fault.

    Raises:
        JobError: `decode_timeout`, `disk_full` or `decode_crashed`.
    """
    if outcome.timed_out or outcome.status == -signal.SIGXCPU:
        raise JobError(ErrorCode.DECODE_TIMEOUT, f"{program} had not ended after {seconds:g} s")
    if os.strerror(errno.ENOSPC) in outcome.errors or outcome.status == -signal.SIGXFSZ:
        raise JobError(ErrorCode.DISK_FULL, "no space is left for the decoded audio")
    if outcome.status < 0:
        raise JobError(ErrorCode.DECODE_CRASHED, f"{program} was killed by {signal.Signals(-outcome.status).name}")
    if outcome.status == _TERMINATED:
        raise JobError(ErrorCode.DECODE_CRASHED, f"{program} was stopped before it had finished")
