"""What tests ask of the operating system about processes that are not theirs to wait for."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

CLONE = Path(__file__).parents[1]


def children(pid):
    """The ids of a process's children, theirs included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid:
                    found += [int(entry.name), *children(int(entry.name))]
    return found


def command(pid):
    """The command line of a process; empty: it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def models(pid):
    """The ids of the processes that hold a model, among the children of a transcribe worker."""
    return [child for child in children(pid) if "spawn_main" in command(child)]


def alive(pids):
    """Those of the processes that still run; a zombie does not."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def slowness():
    """How many times as long a command takes to start now as on an idle machine; at least 1."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "pipeline", "submit", "--help"], cwd=CLONE, check=True, capture_output=True)
    return max(1.0, (time.monotonic() - begun) / 0.6)


def becomes(condition, timeout=30):
    """Whether `condition()` comes true within `timeout` seconds, of something that announces nothing."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def end(pids, timeout=30):
    """Whether all these processes end within `timeout` seconds."""
    return becomes(lambda: not alive(pids), timeout)
