"""Check 1: there is a GPU, its driver works, and it runs this build of ctranslate2, tested with a small model."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, List, Optional

from pipeline.doctor import build, canary, devices, jit_cache, smi, steps
from pipeline.doctor.checks import loading
from pipeline.doctor.findings import FAIL, Finding, finding
from pipeline.doctor.machine import Machine

KERNEL_MODULE = "/proc/driver/nvidia/version"  # where NVIDIA's kernel module shows its version

# Results of the CUDA driver API (cuda.h, CUresult) that a worker may see.
UNKNOWN = ("unknown", "알 수 없음")
MEANINGS = {
    1: ("invalid value", "잘못된 값"),
    2: ("out of memory", "메모리 부족"),
    3: ("not initialized (the container lacks its device files)", "초기화되지 않음(컨테이너에 장치 파일이 없음)"),
    34: ("the library is a stub, not a driver", "드라이버가 아닌 스텁 라이브러리"),
    46: ("the device is busy or unavailable", "장치가 사용 중이거나 사용할 수 없음"),
    100: ("no device", "장치 없음"),
    101: ("invalid device", "잘못된 장치"),
    214: ("uncorrectable memory error", "정정할 수 없는 메모리 오류"),
    304: (
        "operating system error: a device file is missing or not accessible",
        "운영체제 오류: 장치 파일이 없거나 접근 불가",
    ),
    719: ("the GPU failed while working", "작업 도중 GPU 장애"),
    802: ("the system is not ready (the fabric manager is not running)", "시스템 준비 안 됨(fabric manager 미실행)"),
    803: ("version mismatch of driver library and kernel module", "드라이버 라이브러리와 커널 모듈의 버전 불일치"),
    804: ("forward compatibility is not supported on this GPU", "이 GPU에서는 상위 호환이 불가능함"),
    999: UNKNOWN,
}
_MISMATCH = (803, 804)


def examine(machine: Machine, query_smi: Callable[[], smi.SmiOutput] = smi.query) -> List[Finding]:
    """Check the driver, each GPU and the output of nvidia-smi, then run a small model if these checks passed."""
    with ThreadPoolExecutor(1) as pool:  # in parallel, since each may take its whole time limit
        queried = pool.submit(query_smi)
        driver = machine.driver
        output = queried.result()
    trouble = _judge_driver(machine, driver)
    about_smi = _judge_smi(output, driver)
    if trouble:
        shown = [found for card in output.cards for found in _judge_card(card, output.others)]
        return [trouble, *[found for found in about_smi + shown if found.status == FAIL]]
    rows = {card.uuid: _judge_card(card, output.others) for card in output.cards}  # including GPUs that are not used
    cards: Dict[int, List[Finding]] = {
        gpu.index: _judge_gpu(machine, driver, gpu, output.others) + rows.get(gpu.uuid, []) for gpu in machine.gpus
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
    wish = machine.value("WHISPER_GPUS", "all")
    if wish != "all" and len(cards) < len(wish.split(",")):
        values = {"wish": wish, "count": len(driver.gpus)}
        findings.append(finding("gpu_not_there", driver.library, **values))
    findings += about_smi
    if fit and loading.all_load(machine):
        findings.append(_canary(machine, next(gpu for gpu in machine.gpus if gpu.index == fit[0])))
    return findings


def _judge_driver(machine: Machine, driver: devices.Driver) -> Optional[Finding]:
    """Return why no GPU is visible at all."""
    outcome = driver.outcome
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    barred = machine.value("NVIDIA_VISIBLE_DEVICES")
    if outcome.hung:
        return finding("driver_hangs", outcome.last_line, ending=outcome.endings)
    if not outcome.ok:
        return finding("driver_crashes", outcome.last_line, ending=outcome.endings)
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
    wanted = machine.build
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


def _judge_gpu(machine: Machine, driver: devices.Driver, gpu: devices.Gpu, others: str) -> List[Finding]:
    """Check the state of a GPU, then whether the build has code for it."""
    free = "unknown" if gpu.memory_free is None else f"{gpu.memory_free >> 20}"
    evidence = (
        f"GPU {gpu.index}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, "
        f"{free} of {gpu.memory_total >> 20} MiB free, driver supports CUDA {driver.version[0]}.{driver.version[1]}"
    )
    values = {"name": gpu.name, "index": gpu.index}
    steps.log("capability", "%s, %s", gpu.name, evidence)
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
    wanted = machine.build
    if wanted is None or not wanted.core.machine_code:
        return [finding("gpu_found", evidence, **values)]
    if wanted.runs_as_machine_code(gpu.capability):
        return [finding("gpu_fit", f"{evidence}; ctranslate2 {wanted.version} has machine code for it", **values)]
    if not wanted.runs_as_ptx(gpu.capability):
        least = min(wanted.core.machine_code)
        capability = f"{gpu.capability[0]}.{gpu.capability[1]}"
        return [finding("gpu_too_old", evidence, **values, capability=capability, least=f"{least[0]}.{least[1]}")]
    if driver.version < wanted.cuda:
        return [_too_old("driver_too_old_for_ptx", evidence, driver, wanted.cuda, gpu.name)]
    return [
        finding("gpu_fit", f"{evidence}; the driver compiles the PTX of ctranslate2 {wanted.version} for it", **values)
    ]


def _too_old(code: str, evidence: str, driver: devices.Driver, needed: "tuple[int, int]", name: str = "") -> Finding:
    return finding(
        code,
        evidence,
        name=name,
        has=f"{driver.version[0]}.{driver.version[1]}",
        cuda=f"{needed[0]}.{needed[1]}",
        driver=build.driver(needed),
    )


def _judge_smi(output: smi.SmiOutput, driver: devices.Driver) -> List[Finding]:
    """Check whether nvidia-smi worked; single values that it does not know are not a failure."""
    outcome, text = output.outcome, output.text
    if output.start_error:
        return [finding("nvidia_smi_failed", output.start_error, ending=("it does not start", "시작되지 않음"))]
    if outcome is None:
        return [finding("nvidia_smi_missing")] if driver.gpus else []
    if outcome.hung:
        return [finding("nvidia_smi_hangs", output.program, ending=outcome.endings)]
    if output.cards:
        return []
    if "mismatch" in text.lower():
        return [finding("nvidia_smi_mismatch", text[:300])]
    if "unknown error" in text.lower():
        return [finding("nvidia_smi_unknown_error", text[:300])]
    ending = ("its output is not readable", "출력을 해석할 수 없음") if outcome.ok else outcome.endings
    return [finding("nvidia_smi_failed", outcome.last_line, ending=ending)] if driver.gpus else []


def _judge_card(card: smi.Card, others: str) -> List[Finding]:
    """Check a GPU by its row in the output of nvidia-smi."""
    found = []
    if card.errors:
        found.append(finding("gpu_ecc_errors", card.line, name=card.name, count=card.errors))
    if card.failed:
        found.append(finding("gpu_remapping_failed", f"{card.line}; {card.retired}", name=card.name))
    if card.pending:
        found.append(finding("gpu_pages_pending", card.line, name=card.name))
    if (card.used or 0) > smi.SHARED:
        others = others or "nvidia-smi shows no process, since it cannot see outside this container"
        found.append(finding("gpu_shared", others, name=card.name, used=card.used, total=card.total))
    return [*found, finding("nvidia_smi_agrees", card.line, name=card.name, health=card.health)]


def _canary(machine: Machine, gpu: devices.Gpu) -> Finding:
    """Run a small model on a GPU; allow more time if the driver has to compile the build's PTX first."""
    wanted = machine.build
    assert wanted is not None  # noqa: S101 - its libraries were loaded before
    warm = jit_cache.is_compiled(wanted, machine.driver, gpu, machine.variables)
    one = {"CUDA_VISIBLE_DEVICES": gpu.uuid} if gpu.index else {}
    run = canary.micro(machine.target.python, "cuda", timeout=canary.WARM if warm else canary.COLD, variables=one)
    outcome = run.outcome
    steps.log("micro canary", "%s on GPU %d after %.1f s", outcome.ending, gpu.index, outcome.seconds)
    again = machine.pipeline("doctor", "--device", "cuda", "--stage", "transcribe")
    if outcome.hung:
        cache = jit_cache.folder(machine.variables) or "/a/folder/that/stays"
        return finding("canary_hangs", outcome.last_line, ending=outcome.endings, cache=cache, command=again)
    if run.out_of_memory:
        return finding("canary_out_of_memory", outcome.last_line)
    if outcome.signal:
        return finding("canary_killed", outcome.last_line, ending=outcome.endings, command=again)
    if not outcome.ok:
        return finding("canary_failed", outcome.ending, reason=outcome.last_line, command=again)
    if run.device != "cuda":
        return finding("canary_on_cpu", outcome.last_line, device=run.device, command=machine.requirements())
    jit_cache.mark_compiled(wanted, machine.driver, gpu, machine.variables)
    evidence = f"GPU {gpu.index}: loaded in {run.load:.2f} s, ran in {run.run:.2f} s, {'warm' if warm else 'cold'}"
    return finding("canary_passed", evidence, seconds=f"{run.run:.2f}")


def _kernel_module() -> str:
    """Return the version line of NVIDIA's kernel module; empty if it is not loaded."""
    try:
        with open(KERNEL_MODULE, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _name(driver: devices.Driver, index: int) -> str:
    return next(gpu.name for gpu in driver.gpus if gpu.index == index)
