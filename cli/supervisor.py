"""Keeps the stages of the Procfile running on a developer's machine: started, watched, restarted, stopped."""

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

from cli.embedded import leash
from config.environment import ROOT

FIRST_DELAY = 1.0  # seconds before a stage that ended is started again; doubled each time
LAST_DELAY = 30.0
STEADY = 60.0  # seconds of running after which the delay begins anew
LAST_WORDS = 1.0  # seconds that a stage's output is read on after its end
KILL_AFTER = 10.0  # seconds that a stage gets on top of the shutdown time-out, for its own clean-up

_LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*)$")


def procfile(path: Path = ROOT / "Procfile") -> dict[str, list[str]]:
    """Return the command of each process group by its name."""
    found = (_LINE.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match[1]: shlex.split(match[2]) for match in found if match}


class Supervisor:
    """Runs each command until `stop()`; what it prints goes to `show(name, line)`.

    One that ends by itself is started again, or where there is an `on_end`, that is called with its name and exit code.
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
        # The commands of this interpreter's environment come first: `dramatiq` may not be on PATH.
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
        """Stop every command: SIGTERM, and SIGKILL for what is left after the shutdown time-out."""
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
        """Return the process id of each command that runs now."""
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
            self._show(name, f"ended with exit code {code}; started again in {delay:g} s")
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
                start_new_session=True,  # Ctrl-C reaches us alone, and we stop the stages in order
                preexec_fn=leash,  # noqa: PLW1509 - one system call, nothing that could take a lock
            )
            self._processes[name] = process
        # Not until the pipe closes: what the stage left behind might hold it, and the stage would not come back.
        reader = threading.Thread(target=self._read, args=(name, process), name=f"reader-{name}", daemon=True)
        reader.start()
        code = process.wait()
        reader.join(LAST_WORDS)
        return code

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout:
            for line in process.stdout:
                self._show(name, line.rstrip("\n"))


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal a stage's master, which tells its workers; to kill, signal its whole group, lest workers stay behind."""
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass
