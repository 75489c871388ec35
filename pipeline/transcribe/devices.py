"""Plan the slots: one for each GPU, or replicas that share the cores of the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.bounds import check_gpus
from pipeline.transcribe import calibration
from pipeline.transcribe.child import Spec
from pipeline.transcribe.failures import EngineError
from pipeline.transcribe.machine import Hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pipeline.doctor.devices import Gpu
    from pipeline.transcribe.backends.base import Backend

MOST_REPLICAS = 8  # on a CPU; beyond it memory bandwidth is the limit
MEMORY_PER_MODEL = 3  # times the size of the weights, for one replica: the loaded weights and what a batch needs


def visible_gpus() -> Sequence[Gpu]:
    """Return the GPUs that the driver shows, without a CUDA context in this process."""
    from pipeline.doctor import devices  # noqa: PLC0415 - only where a GPU may be wanted

    return devices.visible()


def plan(  # noqa: PLR0913 - each is a setting of its own
    *,
    backend: Backend,
    model: str,
    path: Path,
    device: str = "auto",
    compute_type: str = "auto",
    replicas: int = 0,
    gpus: str = "all",
    machine: Hardware | None = None,
    visible: Callable[[], Sequence[Gpu]] = visible_gpus,
    calibrate: Callable[[Callable[[int], Sequence[Spec]], int], int] = calibration.replicas,
) -> list[Spec]:
    """Return the specification of every slot to start.

    Args:
        backend: what loads the model.
        model: its name, for messages.
        path: where it is.
        device: `cuda`, `cpu`, or `auto`: a GPU if one is visible.
        compute_type: the backend's name of an arithmetic, or `auto`.
        replicas: processes on a CPU; 0: as many as calibration finds fastest.
        gpus: `all`, or indices of visible GPUs such as `0,1`.
        machine: what a CPU's processes share; None: the current machine.
        visible: returns the visible GPUs.
        calibrate: returns how many processes are fastest; see `calibration.replicas`.

    Raises:
        EngineError: an argument is invalid, or a GPU that it asks for is not visible.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise EngineError(f"device is {device!r}: it takes auto, cuda or cpu.")
    if replicas < 0:
        raise EngineError(f"replicas is {replicas}: it takes a number of processes, or 0 for the fastest.")
    found = _pinned(gpus, visible()) if device in ("auto", "cuda") else []
    if device == "cuda" and not found:
        raise EngineError("No GPU is visible: run `voicemill doctor --device cuda`.")

    def spec(place: str, name: str, gpu: str | None, threads: int) -> Spec:
        return Spec(
            backend=backend,
            model=model,
            path=path,
            device=place,
            device_name=name,
            gpu=gpu,
            compute_type=backend.default_compute_type(place) if compute_type == "auto" else compute_type,
            threads=threads,
        )

    if found:
        return [spec("cuda", name, gpu, 0) for gpu, name in found]
    machine = machine or Hardware.current()
    cores = machine.cores

    def shared(count: int) -> list[Spec]:
        return [spec("cpu", "CPU", None, cores // count)] * count

    if replicas:
        return shared(min(replicas, cores))
    most = _most_replicas(backend.weights_size(path), machine)
    return shared(calibrate(shared, most) if most > 1 else 1)


def _pinned(wanted: str, visible: Sequence[Gpu]) -> list[tuple[str, str]]:
    """Return the UUID (or index) and the name of each GPU in `wanted`."""
    try:
        check_gpus(wanted)
    except ValueError as error:
        raise EngineError(f"gpus is {wanted!r}: it {error}.") from None
    if wanted != "all":
        indices = [int(part) for part in wanted.split(",")]
        if missing := [index for index in indices if index not in range(len(visible))]:
            raise EngineError(f"WHISPER_GPUS names GPU {missing[0]}, and {len(visible)} GPUs are visible.")
        visible = [visible[index] for index in indices]
    return [(gpu.uuid or str(gpu.index), gpu.name) for gpu in visible]


def _most_replicas(weights: int, machine: Hardware) -> int:
    """Return how many processes fit, with at least a core each and memory for weights of this size (bytes)."""
    return max(1, min(machine.cores, MOST_REPLICAS, machine.memory // (MEMORY_PER_MODEL * weights)))
