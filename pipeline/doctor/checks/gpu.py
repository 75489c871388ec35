"""Check 1: is there a GPU, does its driver work, and can this card run this build? Proven by a small model."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, List, Optional

from pipeline.doctor import build, canary, devices, ladder, smi, warmth
from pipeline.doctor.box import Box
from pipeline.doctor.checks import loading
from pipeline.doctor.findings import FAIL, Finding, finding

KERNEL_MODULE = "/proc/driver/nvidia/version"  # what the kernel's NVIDIA module says of itself

# Results of the CUDA driver API (cuda.h, CUresult) that a worker may meet.
UNKNOWN = ("unknown", "알 수 없음")
MEANINGS = {
    1: ("invalid value", "잘못된 값"),
    2: ("out of memory", "메모리 부족"),
    3: ("not initialized (the container lacks its device files)", "초기화되지 않음(컨테이너에 장치 파일이 없음)"),
    34: ("the library is a stub and no driver", "드라이버가 아닌 스텁 라이브러리"),
    46: ("the device is busy or unavailable", "장치가 사용 중이거나 사용할 수 없음"),
    100: ("no device", "장치 없음"),
    101: ("invalid device", "잘못된 장치"),
    214: ("a memory error that could not be corrected", "정정할 수 없는 메모리 오류"),
    304: (
        "an error of the operating system: a device file is missing or forbidden",
        "운영체제 오류: 장치 파일이 없거나 접근 불가",
    ),
    719: ("the card failed in the middle of its work", "작업 도중 GPU 장애"),
    802: ("the system is not ready (its fabric manager does not run)", "시스템 준비 안 됨(fabric manager 미실행)"),
    803: ("the driver's library and its kernel module differ", "드라이버 라이브러리와 커널 모듈의 버전 불일치"),
    804: ("forward compatibility is not possible on this card", "이 GPU에서는 상위 호환이 불가능함"),
    999: UNKNOWN,
}
_MISMATCH = (803, 804)


def examine(box: Box) -> List[Finding]:
    """Look at the driver, then at each card, then at nvidia-smi, and run a small model where all that went well."""
    with ThreadPoolExecutor(1) as pool:  # each may take all of its time limit
        asked = pool.submit(smi.ask)
        driver = box.driver
        seen = asked.result()
    trouble = _driver(box, driver)
    witness = _witness(seen, driver)
    if trouble:
        shown = [found for card in seen.cards for found in _shown(card, seen.others)]
        return [trouble, *[found for found in witness + shown if found.status == FAIL]]
    rows = {card.uuid: _shown(card, seen.others) for card in seen.cards}  # also of cards that are not to be used
    cards: Dict[int, List[Finding]] = {
        gpu.index: _card(box, driver, gpu, seen.others) + rows.get(gpu.uuid, []) for gpu in box.gpus
    }
    fit = [index for index, found in cards.items() if all(each.status != FAIL for each in found)]
    findings = [each for found in cards.values() for each in found]
    if fit and len(fit) < len(cards):
        indices = ",".join(map(str, fit))
        findings = [
            finding("gpu_hot_spare", each.message(), name=_name(driver, index), indices=indices)
            if each.status == FAIL
            else each
            for index, found in cards.items()
            for each in found
        ]
    wish = box.value("WHISPER_GPUS", "all")
    if wish != "all" and len(cards) < len(wish.split(",")):
        values = {"wish": wish, "count": len(driver.gpus)}
        findings.append(finding("gpu_not_there", driver.library, **values))
    findings += witness
    if fit and loading.works(box):
        findings.append(_canary(box, next(gpu for gpu in box.gpus if gpu.index == fit[0])))
    return findings


def _driver(box: Box, driver: devices.Driver) -> Optional[Finding]:
    """Return why no GPU can be seen at all."""
    outcome = driver.outcome
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    barred = box.value("NVIDIA_VISIBLE_DEVICES")
    if outcome.hung:
        return finding("driver_hangs", outcome.last, ending=outcome.words)
    if not outcome.ok:
        return finding("driver_crashes", outcome.last, ending=outcome.words)
    if driver.missing:
        if "cannot open shared object file" not in driver.missing:
            return finding("driver_library_broken", driver.missing, reason=driver.missing)
        if barred in ("void", "none"):
            return finding("gpu_hidden_from_container", driver.missing, value=barred)
        kernel = _kernel_module()
        if kernel:
            return finding("driver_not_in_container", f"{kernel}; {driver.missing}")
        return finding("driver_absent", driver.missing)
    release = f"{driver.version[0]}.{driver.version[1]}"
    evidence = f"{driver.library}: CUDA {release}, result {driver.init}"
    wanted = box.build
    if wanted and wanted.cublas and (0, 0) < driver.version < (wanted.cublas, 0):
        needed = (wanted.cublas, 0)
        return _too_old("driver_too_old", evidence, driver, needed)
    if driver.init in _MISMATCH:
        return finding("driver_mismatch", evidence, code=driver.init)
    if driver.init == 100 or (driver.init == 0 and not driver.gpus):
        if hidden is not None:
            return finding("gpu_hidden", evidence, value=repr(hidden))
        if barred in ("void", "none"):
            return finding("gpu_hidden_from_container", evidence, value=barred)
        return finding("gpu_none", evidence)
    if driver.init != 0:
        return finding("driver_failed", evidence, code=driver.init, meaning=MEANINGS.get(driver.init, UNKNOWN))
    return None


def _card(box: Box, driver: devices.Driver, gpu: devices.Gpu, others: str) -> List[Finding]:
    """Judge a card by its state, then by the code that the build has for it."""
    free = "unknown" if gpu.memory_free is None else f"{gpu.memory_free >> 20}"
    evidence = (
        f"GPU {gpu.index}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, "
        f"{free} of {gpu.memory_total >> 20} MiB free, driver of CUDA {driver.version[0]}.{driver.version[1]}"
    )
    values = {"name": gpu.name, "index": gpu.index}
    ladder.tell("capability", "%s, %s", gpu.name, evidence)
    if gpu.mode == 2:
        return [finding("gpu_prohibited", evidence, **values)]
    if gpu.context == 46:
        return [finding("gpu_busy", others or evidence, **values)]
    if gpu.context == 2:
        return [finding("gpu_memory_full", others or evidence, **values)]
    if gpu.context == 214:
        return [finding("gpu_ecc_errors", evidence, **values, count=("some", "여러"))]
    if gpu.context > 0:
        meaning = MEANINGS.get(gpu.context, UNKNOWN)
        return [finding("gpu_broken", evidence, **values, code=gpu.context, meaning=meaning)]
    wanted = box.build
    if wanted is None or not wanted.core.machine_code:
        return [finding("gpu_found", evidence, **values)]
    if wanted.runs_as_machine_code(gpu.capability):
        return [finding("gpu_fit", f"{evidence}; machine code for it in ctranslate2 {wanted.version}", **values)]
    if not wanted.runs_as_ptx(gpu.capability):
        least = min(wanted.core.machine_code)
        capability = f"{gpu.capability[0]}.{gpu.capability[1]}"
        return [finding("gpu_too_old", evidence, **values, capability=capability, least=f"{least[0]}.{least[1]}")]
    if driver.version < wanted.cuda:
        return [_too_old("driver_too_old_for_ptx", evidence, driver, wanted.cuda, gpu.name)]
    return [finding("gpu_fit", f"{evidence}; PTX of ctranslate2 {wanted.version} to be compiled for it", **values)]


def _too_old(code: str, evidence: str, driver: devices.Driver, needed: "tuple[int, int]", name: str = "") -> Finding:
    return finding(
        code,
        evidence,
        name=name,
        has=f"{driver.version[0]}.{driver.version[1]}",
        cuda=f"{needed[0]}.{needed[1]}",
        driver=build.driver(needed),
    )


def _witness(witness: smi.Witness, driver: devices.Driver) -> List[Finding]:
    """Judge how nvidia-smi fared; a cell that it could not fill in is no fault of the whole."""
    outcome, text = witness.outcome, witness.text
    if witness.refused:
        return [finding("nvidia_smi_failed", witness.refused, ending=("it does not start", "시작되지 않음"))]
    if outcome is None:
        return [finding("nvidia_smi_missing")] if driver.gpus else []
    if outcome.hung:
        return [finding("nvidia_smi_hangs", witness.program, ending=outcome.words)]
    if witness.cards:
        return []
    if "mismatch" in text.lower():
        return [finding("nvidia_smi_mismatch", text[:300])]
    if "unknown error" in text.lower():
        return [finding("nvidia_smi_unknown_error", text[:300])]
    ending = ("it says nothing that can be read", "출력을 읽을 수 없음") if outcome.ok else outcome.words
    return [finding("nvidia_smi_failed", outcome.last, ending=ending)] if driver.gpus else []


def _shown(card: smi.Card, others: str) -> List[Finding]:
    """Judge a card by its row."""
    found = []
    if card.errors:
        found.append(finding("gpu_ecc_errors", card.line, name=card.name, count=card.errors))
    if card.failed:
        found.append(finding("gpu_remapping_failed", f"{card.line}; {card.retired}", name=card.name))
    if card.pending:
        found.append(finding("gpu_pages_pending", card.line, name=card.name))
    if (card.used or 0) > smi.SHARED:
        others = others or "nvidia-smi names no process: it cannot see out of this container"
        found.append(finding("gpu_shared", others, name=card.name, used=card.used, total=card.total))
    return [*found, finding("nvidia_smi_agrees", card.line, name=card.name, health=card.health)]


def _canary(box: Box, gpu: devices.Gpu) -> Finding:
    """Run a small model on a GPU; it may take long only where the driver has to compile the build's code first."""
    wanted = box.build
    assert wanted is not None  # noqa: S101 - its libraries have been loaded
    warm = warmth.is_warm(wanted, box.driver, gpu, box.variables)
    one = {"CUDA_VISIBLE_DEVICES": gpu.uuid} if gpu.index else {}
    run = canary.micro(box.target.python, "cuda", timeout=canary.WARM if warm else canary.COLD, variables=one)
    outcome = run.outcome
    ladder.tell("micro canary", "%s on GPU %d after %.1f s", outcome.ending, gpu.index, outcome.seconds)
    again = box.pipeline("doctor", "--device", "cuda", "--stage", "transcribe")
    if outcome.hung:
        cache = warmth.cache(box.variables) or "/a/folder/that/stays"
        return finding("canary_hangs", outcome.last, ending=outcome.words, cache=cache, command=again)
    if run.out_of_memory:
        return finding("canary_out_of_memory", outcome.last)
    if outcome.signal:
        return finding("canary_killed", outcome.last, ending=outcome.words, command=again)
    if not outcome.ok:
        return finding("canary_failed", outcome.ending, reason=outcome.last, command=again)
    if run.device != "cuda":
        return finding("canary_on_cpu", outcome.last, device=run.device, command=box.requirements())
    warmth.remember(wanted, box.driver, gpu, box.variables)
    evidence = f"GPU {gpu.index}: loaded in {run.load:.2f} s, ran in {run.run:.2f} s, {'warm' if warm else 'cold'}"
    return finding("canary_passed", evidence, seconds=f"{run.run:.2f}")


def _kernel_module() -> str:
    """Return the first line of what the kernel's NVIDIA module says of itself; empty: there is none."""
    try:
        with open(KERNEL_MODULE, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _name(driver: devices.Driver, index: int) -> str:
    return next(gpu.name for gpu in driver.gpus if gpu.index == index)
