"""Runs the stages of the Procfile on a developer's machine: starts, restarts and stops them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cli.embedded import die_with_parent
from config.environment import ROOT

FIRST_DELAY = 1.0  # seconds before a stage that ended is restarted; doubled each time
LAST_DELAY = 30.0
STEADY = 60.0  # seconds of running after which the delay starts at FIRST_DELAY again
LAST_OUTPUT = 1.0  # seconds that a stage's output is read after its end
KILL_AFTER = 10.0  # seconds that a stage gets for its clean-up, beyond the shutdown timeout

_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*)$")


def procfile(path: Path = ROOT / "Procfile") -> dict[str, list[str]]:
    """Return the commands of a Procfile by their names."""
    found = (_LINE.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match[1]: shlex.split(match[2]) for match in found if match}


class Supervisor:
    """Runs commands until `stop()`, and restarts those that end.

    Args:
        commands: by name.
        environment: of the commands.
        show: called with a command's name and each line that it prints.
        shutdown_timeout: seconds that a command gets to stop.
        on_end: called with the name and exit code of a command that ends by itself; None: it is restarted.
    """

    def __init__(
        self,
        commands: dict[str, list[str]],
        environment: dict[str, str],
        show: Callable[[str, str], None],
        shutdown_timeout: float,
        on_end: Callable[[str, int], None] | None = None,
    ) -> None:
        self._commands = commands
        # Programs beside this interpreter come first: `dramatiq` may not be on PATH.
        path = os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", os.defpath)))
        self._environment = environment | {"PATH": path, "PYTHONUNBUFFERED": "1"}
        self._show = show
        self._shutdown_timeout = shutdown_timeout
        self._on_end = on_end
        self._stopping = threading.Event()
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._keepers: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start every command."""
        for name in self._commands:
            keeper = threading.Thread(target=self._keep, args=(name,), name=f"keeper-{name}")
            keeper.start()
            self._keepers.append(keeper)

    def stop(self) -> None:
        """Stop every command: SIGTERM, and SIGKILL for what is left after the shutdown timeout."""
        self._stopping.set()
        with self._lock:
            processes = list(self._processes.values())
        for process in processes:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + self._shutdown_timeout + KILL_AFTER
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
        for keeper in self._keepers:
            keeper.join()

    def pids(self) -> dict[str, int]:
        """Return the process ids of the commands that run now, by name."""
        with self._lock:
            return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def _keep(self, name: str) -> None:
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run(name)
            if self._stopping.is_set():
                return
            if self._on_end is not None:
                self._on_end(name, code)
                return
            if time.monotonic() - began > STEADY:
                delay = FIRST_DELAY
            self._show(name, f"ended with exit code {code}; restarted in {delay:g} s")
            self._stopping.wait(delay)
            delay = min(LAST_DELAY, delay * 2)

    def _run(self, name: str) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            process = subprocess.Popen(  # noqa: S603 - a line of the Procfile
                self._commands[name],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C does not reach it: `stop` does, in order
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, nothing that could take a lock
            )
            self._processes[name] = process
        # Do not wait until the pipe closes: a process that the stage left behind may hold it open.
        reader = threading.Thread(target=self._read, args=(name, process), name=f"reader-{name}", daemon=True)
        reader.start()
        code = process.wait()
        reader.join(LAST_OUTPUT)
        return code

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout:
            for line in process.stdout:
                self._show(name, line.rstrip("\n"))


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal a stage's main process, which stops its workers; SIGKILL goes to the whole group."""
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass
