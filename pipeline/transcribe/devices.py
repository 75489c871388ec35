"""What the engine runs on: one slot a GPU, or replicas that share the cores of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.bounds import check_encoder_window, check_gpus
from pipeline.transcribe import calibration, machine
from pipeline.transcribe.child import Spec
from pipeline.transcribe.failures import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
        EngineError: a wish is none that there is, no GPU is visible though one is asked for, or an index names none.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise EngineError(f"{device!r} is no device: use auto, cuda or cpu.")
    if replicas < 0:
        raise EngineError(f"replicas is {replicas}: it takes a number of processes, or 0 for the fastest.")
    _demand("encoder_window", check_encoder_window, encoder_window)
    found = _gpus(gpus) if device in ("auto", "cuda") else []
    if device == "cuda" and not found:
        raise EngineError("No GPU is visible: run `python -m pipeline doctor --device cuda`.")

    def spec(place: str, name: str, gpu: str | None, threads: int) -> Spec:
        return Spec(
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

    if found:
        return [spec("cuda", name, gpu, 0) for gpu, name in found]
    cores = machine.available_cores()

    def shared(count: int) -> list[Spec]:
        return [spec("cpu", "CPU", None, cores // count)] * count

    if replicas:
        return shared(min(replicas, cores))
    most = _most_replicas(path, cores)
    return shared(calibration.replicas(shared, most) if most > 1 else 1)


def _gpus(wanted: str) -> list[tuple[str, str]]:
    """Return the UUID and the name of each GPU to be used, without a CUDA context in this process."""
    from pipeline.doctor import devices  # noqa: PLC0415 - only where a GPU may be wanted

    visible = devices.visible()
    _demand("gpus", check_gpus, wanted)
    if wanted != "all":
        indices = [int(part) for part in wanted.split(",")]
        if missing := [index for index in indices if index not in range(len(visible))]:
            raise EngineError(f"WHISPER_GPUS names GPU {missing[0]}, and {len(visible)} GPUs are visible.")
        visible = [visible[index] for index in indices]
    return [(gpu.uuid or str(gpu.index), gpu.name) for gpu in visible]


def _demand(name: str, check: Callable[[str], str], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise EngineError(f"{name} is {value!r}: it {error}.") from None


def _most_replicas(path: Path, cores: int) -> int:
    """Return how many processes the cores and the memory carry; never more threads than cores."""
    size = (path / "model.bin").stat().st_size
    return max(1, min(cores, MOST_REPLICAS, machine.available_memory() // (MEMORY_PER_MODEL * size)))
