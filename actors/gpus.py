"""How a worker's GPUs are, as `status` shows them: memory, utilisation and temperature."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from typing import Any

EVERY = 15.0  # seconds between two readings
TIMEOUT = 4.0  # seconds; nvidia-smi hangs where the driver does
FIELDS = "name,memory.used,memory.total,utilization.gpu,temperature.gpu"
MIB = 2**20


class Gpus:
    """Reads the GPUs that this process may use, on a thread of its own.

    Args:
        timeout: seconds after which nvidia-smi is given up.
    """

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._last: list[dict[str, Any]] = []
        self._next = 0.0  # when to ask again (on the monotonic clock)
        self._asking = threading.Lock()

    def read(self) -> list[dict[str, Any]]:
        """Return the GPUs as of the last reading, and start the next one if it is due.

        Never wait for nvidia-smi: it cannot even be killed while the driver hangs, and the heartbeat calls this. The
        list is empty before the first reading, and if nvidia-smi is missing or does not answer.

        Each entry has `name`, `memory_used` and `memory_total` (bytes), `utilisation` (%) and `temperature` (°C), with
        None for what the GPU does not report.
        """
        if time.monotonic() >= self._next and self._asking.acquire(blocking=False):
            self._next = time.monotonic() + EVERY
            threading.Thread(target=self._refresh, name="gpus", daemon=True).start()
        return self._last

    def settled(self) -> list[dict[str, Any]]:
        """Return the GPUs once the reading in progress, if there is one, is over."""
        with self._asking:
            return self._last

    def _refresh(self) -> None:
        try:
            self._last = _ask(self._timeout)
        finally:
            self._asking.release()


def _ask(timeout: float) -> list[dict[str, Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    if os.environ.get("CUDA_VISIBLE_DEVICES"):
        command += ["-i", os.environ["CUDA_VISIBLE_DEVICES"]]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)  # noqa: S603
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
