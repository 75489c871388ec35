"""Running the checks that a stage and a device need, in parallel; a crash in one does not affect the others."""

from __future__ import annotations

import logging
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Callable, Dict, List, Optional, Tuple

from config import environment
from pipeline.doctor import child, resp, target
from pipeline.doctor.checks import cuda, cudnn, ffmpeg, gpu, model, packages, python, redis
from pipeline.doctor.findings import CHECKS, Finding, finding
from pipeline.doctor.machine import DEVICES, Machine
from pipeline.doctor.report import Check, Report

GPU_CHECKS = ("gpu", "cuda", "cudnn")
EXAMINE: Dict[str, Callable[[Machine], List[Finding]]] = {
    "gpu": gpu.examine,
    "cuda": cuda.examine,
    "cudnn": cudnn.examine,
    "ffmpeg": ffmpeg.examine,
    "python": python.examine,
    "packages": packages.examine,
    "model": model.examine,
    "redis": redis.examine,
}
STAGES = {
    "decode": ("ffmpeg", "python", "packages", "redis"),
    "transcribe": ("gpu", "cuda", "cudnn", "python", "packages", "model", "redis"),
    "enrich": ("python", "packages", "redis"),
    "backend": ("python", "packages", "redis"),
}
log = logging.getLogger(__name__)


def diagnose(
    stage: Optional[str] = None,
    device: Optional[str] = None,
    *,
    canary: bool = False,
    interpreter: Optional[str] = None,
    only: Optional[List[str]] = None,
) -> Report:
    """Check this machine.

    Args:
        stage: `decode`, `transcribe`, `enrich` or `backend`; None: all.
        device: `auto`, `cuda` or `cpu`; None: the value of `WHISPER_DEVICE`.
        canary: whether to also run the configured model on a second of speech.
        interpreter: the workers' Python; None: the virtual environment's.
        only: ids of the checks to run; the others are skipped.
    """
    begun = time.monotonic()
    variables = environment.values(strict=False)
    wish = (device or variables.get("WHISPER_DEVICE") or "auto").lower()
    machine = Machine(
        device=wish if wish in DEVICES else "auto",
        stage=stage,
        target=target.query(target.choose(interpreter), packages=only is None or "packages" in only),
        variables=variables,
        canary=canary,
    )
    skipped = {name: why for name in CHECKS for why in [_why_not(name, machine, only)] if why}
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        try:  # from the first submit on: an interrupt must not wait for a check that hangs
            futures = {name: pool.submit(_examine, name, machine) for name in CHECKS if name not in skipped}
            checks = [
                futures[name].result() if name in futures else Check(name, (finding("not_needed", why=skipped[name]),))
                for name in CHECKS
            ]
        except BaseException:  # Ctrl-C or SIGTERM: end what the checks wait for, or the pool would not shut down
            child.stop()
            resp.stop()
            raise
    return Report(machine.device, tuple(checks), time.monotonic() - begun)


def _why_not(name: str, machine: Machine, only: Optional[List[str]]) -> Optional[Tuple[str, str]]:
    if only is not None and name not in only:
        return "not selected", "선택되지 않음"
    if machine.stage and name not in STAGES[machine.stage]:
        return f"stage {machine.stage} does not use it", f"{machine.stage} 단계에서는 사용하지 않음"
    if machine.device == "cpu" and name in GPU_CHECKS:
        return "the device is cpu", "장치가 cpu로 설정됨"
    return None


def _examine(name: str, machine: Machine) -> Check:
    """Run one check; if it crashes, the crash is its finding."""
    begun = time.monotonic()
    try:
        findings = machine.once(f"check {name}", lambda: EXAMINE[name](machine))
    except Exception as error:  # noqa: BLE001 - a bug in one check must not hide the results of the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        evidence = f"{type(error).__name__}: {error} ({place.filename.rpartition('/')[2]}:{place.lineno})"
        findings = [finding("check_crashed", evidence, error=type(error).__name__)]
    if machine.device == "auto" and name in GPU_CHECKS:
        findings = [replace(found, demoted=True) for found in findings]
    seconds = time.monotonic() - begun
    for found in findings:
        log.debug("%s %s: %s (%s)", name, found.status, found.message(), found.evidence)
    return Check(name, tuple(findings), seconds)
