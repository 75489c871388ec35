"""Cores, memory and processor of this machine, within the container's limits."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the engine plans with."""

    cores: int
    memory: int  # bytes
    processor: str

    @classmethod
    def current(cls) -> Hardware:
        """Return the machine that this process runs on."""
        return cls(available_cores(), available_memory(), processor())


def available_memory() -> int:
    """Return the bytes that this process may still take, page cache included, within the container's limit."""
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    room = int(meminfo.partition("MemAvailable:")[2].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError, IndexError):  # no cgroup v2, or no limit ("max")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
        cached = int((group / "memory.stat").read_text(encoding="ascii").partition("inactive_file ")[2].split()[0])
        room = min(room, limit - used + cached)
    return room


def available_cores() -> int:
    """Return the cores that this process may use: its affinity, within the container's quota."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no cgroup v2, or no quota ("max")
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def processor() -> str:
    """Return the processor's name, or "unknown" if the kernel does not report it."""
    with suppress(OSError, IndexError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return text.partition("model name")[2].partition(":")[2].splitlines()[0].strip()
    return "unknown"
