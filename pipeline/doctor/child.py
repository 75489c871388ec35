"""A sacrificial process: whatever may die, hang or spoil a process is done in one, and its end is a finding."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from config.environment import ROOT


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code (None after the time limit), what it wrote, and the seconds it took."""

    code: Optional[int]
    out: str
    err: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.code == 0

    @property
    def hung(self) -> bool:
        """Whether it had to be ended."""
        return self.code is None

    @property
    def signal(self) -> str:
        """The name of the signal that it died of; empty: it did not."""
        if self.code is None or self.code >= 0:
            return ""
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    @property
    def ending(self) -> str:
        """Its end in a few words."""
        if self.hung:
            return f"hung, ended after {self.seconds:.0f} s"
        return f"killed by {self.signal}" if self.signal else f"exit code {self.code}"

    @property
    def words(self) -> Tuple[str, str]:
        """Its end in a few words of English and of Korean."""
        if self.hung:
            return self.ending, f"응답이 없어 {self.seconds:.0f}초 후 종료함"
        return self.ending, f"{self.signal} 신호로 종료됨" if self.signal else f"종료 코드 {self.code}"

    @property
    def told(self) -> Optional[Dict[str, Any]]:
        """The object in its last line of output; None: there is none, though what runs at a start may print, too."""
        try:
            seen = json.loads(self.out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            return None
        return seen if isinstance(seen, dict) else None

    @property
    def last(self) -> str:
        """The last line that it wrote, on the error stream if there is one."""
        lines = [line.strip() for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        errors = [line.strip() for line in self.err.splitlines() if line.strip()]
        return (errors or lines or [""])[-1][:300]


class Stopped(Exception):
    """The visit is over: no process is started any more."""


_lock = threading.Lock()
_running: Set[int] = set()  # groups of processes
_visit = threading.Event()  # set once it has been broken off


def stop() -> None:
    """End every process that was started here, and start none from now on: who waits for them waits no longer."""
    with _lock:
        _visit.set()
        for group in _running:
            _kill(group)


def _kill(group: int) -> None:
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def run(command: Sequence[str], timeout: float, variables: Optional[Dict[str, str]] = None) -> Outcome:
    """Run a program within a time limit (seconds), its children included.

    Raises:
        OSError: it cannot be started.
        Stopped: the visit was broken off.
    """
    begun = time.monotonic()
    with _lock:
        if _visit.is_set():
            raise Stopped
        process = subprocess.Popen(  # noqa: S603 - the doctor's own programs
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=str(ROOT),
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
        _running.add(process.pid)
    try:
        return _outcome(process, timeout, begun)
    except BaseException:  # Ctrl-C: the child is in a session of its own, which no terminal reaches
        _kill(process.pid)
        raise
    finally:
        with _lock:
            _running.discard(process.pid)


def _outcome(process: "subprocess.Popen[bytes]", timeout: float, begun: float) -> Outcome:
    code: Optional[int]
    try:
        out, err = process.communicate(timeout=timeout)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        try:
            out, err = process.communicate(timeout=1)
        except subprocess.TimeoutExpired:  # a process that waits for a dead driver cannot even be killed
            out = err = b""
        code = None
    return Outcome(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), time.monotonic() - begun)


def python(
    program: str,
    *arguments: str,
    timeout: float,
    interpreter: str = sys.executable,
    options: Sequence[str] = (),
    variables: Optional[Dict[str, str]] = None,
) -> Outcome:
    """Run a program of Python's; it imports this clone's packages and writes no byte code."""
    command: List[str] = [interpreter, "-B", *options, "-c", program, *arguments]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return run(command, timeout, {"PYTHONPATH": path, **(variables or {})})


def resolve(host: str, timeout: float) -> str:
    """Look up a host's name within a time limit (seconds); return why that failed, empty where it did not.

    The system's own look-up has no limit that a program could set, and a dead name server costs half a minute.
    """
    program = "import socket, sys; socket.getaddrinfo(sys.argv[1], None)"
    outcome = python(program, host, timeout=timeout, options=("-S",))
    reason = re.sub(r"^[\w.]*[eE]rror: (\[Errno -?\d+\] )?", "", outcome.last)
    return "" if outcome.ok else f"no answer within {timeout:g} s" if outcome.hung else reason
