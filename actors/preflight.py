"""The preflight: the doctor examines the machine before the GPU stage's actor is declared, and may refuse it.

Only a worker of the GPU stage runs it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import Any

import dramatiq
import structlog
from dramatiq.middleware import Middleware, MiddlewareError

from actors import process
from pipeline import doctor
from pipeline.doctor import cli, render
from pipeline.doctor.examination import GPU_CHECKS
from pipeline.doctor.findings import CRASH, FAIL, PASS, WARN, Finding
from pipeline.doctor.report import Report

# What can be wrong with a GPU beyond the three checks of it: the model does not fit on it.
OF_THE_GPU = ("model_too_large_for_gpu", "model_compute_type")

# What an operator looks for in the log, by finding; all others are `Doctor finding`.
EVENTS = {
    "gpu_fit": "GPU found",
    "gpu_found": "GPU found",
    "library_loaded": "CUDA library verified",
    "cudnn_loaded": "cuDNN library verified",
    "cudnn_not_used": "cuDNN not used",
    "canary_passed": "Small model ran on the GPU",
}

log = structlog.get_logger(__name__)


class GpuRefused(MiddlewareError):
    """The machine's GPU is not fit to run the actor; `report` is the doctor's."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__("; ".join(found.message() for found in faults(report)))


class Preflight(Middleware):
    """Refuses actors with the option `gpu` if the doctor finds the GPU, its driver or its libraries unfit.

    Dramatiq lets a MiddlewareError out of `before_declare_actor`, and no other exception: the actor is then not
    declared and its queue is not consumed.
    """

    @property
    def actor_options(self) -> set[str]:
        """`gpu`: whether the actor works on a GPU."""
        return {"gpu"}

    def before_declare_actor(self, _broker: dramatiq.Broker, actor: dramatiq.Actor[..., Any]) -> None:
        """Examine the machine for an actor that wants a GPU.

        Raises:
            GpuRefused: it is unfit.
        """
        if not actor.options.get("gpu"):
            return
        report = doctor.diagnose("transcribe", "cuda", only=[*GPU_CHECKS, "model"])
        for check in report.checks:
            for found in check.findings:
                if check.id in GPU_CHECKS and found.status in (PASS, WARN):
                    write = log.info if found.status == PASS else log.warning
                    event = EVENTS.get(found.code, "Doctor finding")
                    write(event, code=found.code, finding=found.message(), evidence=found.evidence)
        if faults(report):
            raise GpuRefused(report)


def faults(report: Report) -> list[Finding]:
    """Return the findings that forbid work on the GPU, without those that would stop the CPU as well."""
    return [
        found
        for check in report.checks
        for found in check.findings
        if found.status in (FAIL, CRASH) and (check.id in GPU_CHECKS or found.code in OF_THE_GPU)
    ]


def declare(
    work: Callable[..., None], broker: dramatiq.Broker, device: str, **options: Any
) -> tuple[dramatiq.Actor[..., None], str, str | None]:
    """Declare the actor of the GPU stage as the machine allows it.

    Args:
        work: the actor's function.
        broker: of this worker.
        device: `cuda`, `auto` or `cpu`: the operator's wish.
        options: the actor's other options.

    Returns:
        The actor, the device to work on (`cuda` or `cpu`), and why it is the CPU although a GPU was welcome.

    Raises:
        SystemExit: 1, a GPU was insisted on and is unfit; the report is on the error stream.
    """

    def declared(**more: Any) -> dramatiq.Actor[..., None]:
        made: dramatiq.Actor[..., None] = dramatiq.actor(broker=broker, **options, **more)(work)
        return made

    if device == "cpu":
        log.info("CUDA libraries not used", reason="WHISPER_DEVICE=cpu")
        return declared(), "cpu", None
    broker.add_middleware(Preflight())
    try:
        return declared(gpu=True), "cuda", None
    except GpuRefused as refusal:
        if device == "cuda":
            text = render.text(refusal.report, cli.locale_language(), colours=render.has_colours(sys.stderr))
            log.critical("The GPU is refused: this worker takes no work", failing=_named(refusal.report))
            process.give_up(
                "transcribe", f"the GPU is not fit to work, and WHISPER_DEVICE=cuda.\n{text}", process.UNFIT
            )
        reason = str(refusal)
        log.warning(
            "No fit GPU: working on the CPU, many times slower",
            failing=_named(refusal.report),
            reason=reason,
            fix=[found.fix() for found in faults(refusal.report)],
            full_report=shlex.join([sys.executable, "-m", "pipeline", "doctor", "--device", "cuda"]),
        )
        log.info("CUDA libraries not used", reason="working on the CPU")
        return declared(), "cpu", reason


def _named(report: Report) -> list[str]:
    return [found.code for found in faults(report)]
