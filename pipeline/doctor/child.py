"""Child processes for whatever may crash, hang or corrupt a process; how they end is reported as a finding."""

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
class ProcessResult:
    """The result of a process: its exit code (None if it exceeded the time limit), its output and its duration."""

    code: Optional[int]
    out: str
    err: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it exited with code 0."""
        return self.code == 0

    @property
    def hung(self) -> bool:
        """Whether it exceeded the time limit and was killed."""
        return self.code is None

    @property
    def signal(self) -> str:
        """The name of the signal that killed it; empty if none did."""
        if self.code is None or self.code >= 0:
            return ""
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    @property
    def ending(self) -> str:
        """A short description of how it ended."""
        if self.hung:
            return f"no response, killed after {self.seconds:.0f} s"
        return f"killed by {self.signal}" if self.signal else f"exit code {self.code}"

    @property
    def endings(self) -> Tuple[str, str]:
        """`ending` in English and in Korean."""
        if self.hung:
            return self.ending, f"응답이 없어 {self.seconds:.0f}초 후 강제 종료함"
        return self.ending, f"{self.signal} 신호로 종료됨" if self.signal else f"종료 코드 {self.code}"

    @property
    def reply(self) -> Optional[Dict[str, Any]]:
        """The JSON object in the last line of output, which start-up code may have preceded; None if there is none."""
        try:
            seen = json.loads(self.out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            return None
        return seen if isinstance(seen, dict) else None

    @property
    def last_line(self) -> str:
        """The last line of the error stream or, if that is empty, of the output."""
        lines = [line.strip() for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        errors = [line.strip() for line in self.err.splitlines() if line.strip()]
        return (errors or lines or [""])[-1][:300]


class Stopped(Exception):
    """The run was aborted; no more processes are started."""


_lock = threading.Lock()
_running: Set[int] = set()  # process groups
_aborted = threading.Event()


def stop() -> None:
    """Kill every process that was started here and start no more, so that nothing keeps waiting for one."""
    with _lock:
        _aborted.set()
        for group in _running:
            _kill(group)


def _kill(group: int) -> None:
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def run(command: Sequence[str], timeout: float, variables: Optional[Dict[str, str]] = None) -> ProcessResult:
    """Run a program and its children within a time limit (seconds).

    Raises:
        OSError: the program cannot be started.
        Stopped: the run was aborted.
    """
    begun = time.monotonic()
    with _lock:
        if _aborted.is_set():
            raise Stopped
        process = subprocess.Popen(  # noqa: S603 - our own commands
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
    except BaseException:  # Ctrl-C does not reach the child, which is in a session of its own
        _kill(process.pid)
        raise
    finally:
        with _lock:
            _running.discard(process.pid)


def _outcome(process: "subprocess.Popen[bytes]", timeout: float, begun: float) -> ProcessResult:
    code: Optional[int]
    try:
        out, err = process.communicate(timeout=timeout)
        code = process.returncode
    except subprocess.TimeoutExpired:
        _kill(process.pid)
        try:
            out, err = process.communicate(timeout=1)
        except subprocess.TimeoutExpired:  # a process in an uninterruptible driver call cannot be killed
            out = err = b""
        code = None
    return ProcessResult(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), time.monotonic() - begun)


def python(
    program: str,
    *arguments: str,
    timeout: float,
    interpreter: str = sys.executable,
    options: Sequence[str] = (),
    variables: Optional[Dict[str, str]] = None,
) -> ProcessResult:
    """Run Python code that can import this clone's packages; no byte code is written."""
    command: List[str] = [interpreter, "-B", *options, "-c", program, *arguments]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return run(command, timeout, {"PYTHONPATH": path, **(variables or {})})


def resolve(host: str, timeout: float) -> str:
    """Resolve a host name within a time limit (seconds); return why it failed, or an empty string.

    `getaddrinfo` has no time limit of its own, and an unreachable name server takes half a minute.
    """
    program = "import socket, sys; socket.getaddrinfo(sys.argv[1], None)"
    outcome = python(program, host, timeout=timeout, options=("-S",))
    reason = re.sub(r"^[\w.]*[eE]rror: (\[Errno -?\d+\] )?", "", outcome.last_line)
    return "" if outcome.ok else f"no answer within {timeout:g} s" if outcome.hung else reason
