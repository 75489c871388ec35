"""How a worker's GPUs are, as `status` shows them: memory, utilisation and temperature."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Any

EVERY = 15.0  # seconds between two looks
TIMEOUT = 4.0  # seconds; nvidia-smi hangs where the driver does, and the heartbeat waits for it
FIELDS = "name,memory.used,memory.total,utilization.gpu,temperature.gpu"
MIB = 2**20

_last: list[dict[str, Any]] = []
_next = 0.0  # when to look again (on the monotonic clock)


def read() -> list[dict[str, Any]]:
    """Return the GPUs that this process may use; none where nvidia-smi is not there or does not answer.

    Each has `name`, `memory_used` and `memory_total` (bytes), `utilisation` (%) and `temperature` (°C); None stands for
    what the GPU does not tell.
    """
    global _last, _next  # noqa: PLW0603 - one memory a process
    if time.monotonic() >= _next:
        _next = time.monotonic() + EVERY
        _last = _ask()
    return _last


def _ask() -> list[dict[str, Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        command += ["-i", os.environ["CUDA_VISIBLE_DEVICES"]]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [_gpu([cell.strip() for cell in row.split(",")]) for row in ran.stdout.splitlines() if row.count(",") == 4]


def _gpu(row: list[str]) -> dict[str, Any]:
    used, total, utilisation, temperature = (int(cell) if cell.isdigit() else None for cell in row[1:])
    return {
        "name": row[0],
        "memory_used": None if used is None else used * MIB,
        "memory_total": None if total is None else total * MIB,
        "utilisation": utilisation,
        "temperature": temperature,
    }
