"""What the engine runs on: one slot a GPU, or replicas that share the cores of the CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pipeline.transcribe import calibration
from pipeline.transcribe.child import Spec
from pipeline.transcribe.failures import EngineError

MOST_REPLICAS = 8  # on a CPU; beyond it memory bandwidth is the limit
MEMORY_PER_MODEL = 3  # times the weights' size, for one replica: weights as loaded, and what a batch needs


def plan(
    *,
    model: str,
    path: Path,
    device: str,
    compute_type: str,
    replicas: int,
    gpus: str,
    encoder_window: str,
    beam_size: int,
) -> list[Spec]:
    """Return a slot's specification for every process to be started.

    Raises:
        EngineError: there is no such device, no GPU is visible though one is asked for, or an index names none.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise EngineError(f"{device!r} is no device: use auto, cuda or cpu.")
    found = _gpus(gpus) if device in ("auto", "cuda") else []
    if device == "cuda" and not found:
        raise EngineError("No GPU is visible: run `python -m pipeline doctor --device cuda`.")

    def specs(places: list[tuple[str, str, str | None, int]]) -> list[Spec]:
        return [
            Spec(
                model=model,
                path=path,
                device=place,
                device_name=name,
                gpu=gpu,
                compute_type={"cuda": "float16", "cpu": "int8"}[place] if compute_type == "auto" else compute_type,
                threads=threads,
                encoder_window=encoder_window,
                beam_size=beam_size,
            )
            for place, name, gpu, threads in places
        ]

    def shared(count: int) -> list[Spec]:
        return specs([("cpu", "CPU", None, available_cores() // count)] * count)

    if found:
        return specs([("cuda", name, gpu, 0) for gpu, name in found])
    if replicas:
        return shared(min(replicas, available_cores()))
    most = _most_replicas(path)
    return shared(calibration.replicas(shared, most) if most > 1 else 1)


def _gpus(wanted: str) -> list[tuple[str, str]]:
    """Return the UUID and the name of each GPU to be used, without a CUDA context in this process."""
    from pipeline.doctor import devices  # noqa: PLC0415 - only where a GPU may be wanted

    visible = devices.visible()
    if wanted != "all":
        indices = [int(part) for part in wanted.split(",")]
        if missing := [index for index in indices if index not in range(len(visible))]:
            raise EngineError(f"WHISPER_GPUS names GPU {missing[0]}, and {len(visible)} GPUs are visible.")
        visible = [visible[index] for index in indices]
    return [(gpu.uuid or str(gpu.index), gpu.name) for gpu in visible]


def _most_replicas(path: Path) -> int:
    """Return how many processes the cores and the memory carry; never more threads than cores."""
    size = (path / "model.bin").stat().st_size
    return max(1, min(available_cores(), MOST_REPLICAS, available_memory() // (MEMORY_PER_MODEL * size)))


def available_memory() -> int:
    """Return the bytes that this process may still take: the machine's, page cache included, within the container's."""
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
