"""One visit: which checks a stage and a device call for, all run at once, each shielded from the others."""

from __future__ import annotations

import logging
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Callable, Dict, List, Optional, Tuple

from config import environment
from pipeline.doctor import child, resp, target
from pipeline.doctor.box import DEVICES, Box
from pipeline.doctor.checks import cuda, cudnn, ffmpeg, gpu, model, packages, python, redis
from pipeline.doctor.findings import CHECKS, Finding, finding
from pipeline.doctor.report import Check, Report

GPU_CHECKS = ("gpu", "cuda", "cudnn")
EXAMINE: Dict[str, Callable[[Box], List[Finding]]] = {
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
    """Examine this machine.

    Args:
        stage: `decode`, `transcribe`, `enrich` or `backend`; None: all.
        device: `auto`, `cuda` or `cpu`; None: what `WHISPER_DEVICE` says.
        canary: whether to run the configured model on a second of speech, too.
        interpreter: the workers' Python; None: the virtual environment's.
        only: ids of the checks to run; the others count as skipped.
    """
    begun = time.monotonic()
    variables = environment.values(strict=False)
    wish = (device or variables.get("WHISPER_DEVICE") or "auto").lower()
    box = Box(
        device=wish if wish in DEVICES else "auto",
        stage=stage,
        target=target.ask(target.choose(interpreter), packages=only is None or "packages" in only),
        variables=variables,
        canary=canary,
    )
    skipped = {name: why for name in CHECKS for why in [_why_not(name, box, only)] if why}
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        try:  # at once: who leaves while the checks begin must not wait for those that hang
            futures = {name: pool.submit(_examine, name, box) for name in CHECKS if name not in skipped}
            checks = [
                futures[name].result() if name in futures else Check(name, (finding("not_needed", why=skipped[name]),))
                for name in CHECKS
            ]
        except BaseException:  # Ctrl-C, or a worker that is told to end: what the checks wait for goes first
            child.stop()
            resp.stop()
            raise
    return Report(box.device, tuple(checks), time.monotonic() - begun)


def _why_not(name: str, box: Box, only: Optional[List[str]]) -> Optional[Tuple[str, str]]:
    if only is not None and name not in only:
        return "not asked for", "요청되지 않음"
    if box.stage and name not in STAGES[box.stage]:
        return f"the stage {box.stage} does without", f"{box.stage} 단계에는 쓰이지 않음"
    if box.device == "cpu" and name in GPU_CHECKS:
        return "the device is cpu", "장치가 cpu로 지정됨"
    return None


def _examine(name: str, box: Box) -> Check:
    """Run one check; where it breaks, that is its finding."""
    begun = time.monotonic()
    try:
        findings = box.once(f"check {name}", lambda: EXAMINE[name](box))
    except Exception as error:  # noqa: BLE001 - a fault of ours must not hide what the other checks found
        place = traceback.extract_tb(error.__traceback__)[-1]
        evidence = f"{type(error).__name__}: {error} ({place.filename.rpartition('/')[2]}:{place.lineno})"
        findings = [finding("check_crashed", evidence, error=type(error).__name__)]
    if box.device == "auto" and name in GPU_CHECKS:
        findings = [replace(found, demoted=True) for found in findings]
    seconds = time.monotonic() - begun
    for found in findings:
        log.debug("%s %s: %s (%s)", name, found.status, found.message(), found.evidence)
    return Check(name, tuple(findings), seconds)
