"""Every finding that the doctor can report: one table of codes, each with a message and a fix in two languages.

`docs/troubleshooting.md` is generated from this table. Names in braces are replaced by values; `{command}` is the
command for the machine that was checked.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Dict, Tuple

from voicemill.address import DEFAULT_URL, NAMESPACE

PASS, WARN, FAIL, SKIP, CRASH = "pass", "warn", "fail", "skip", "crash"
SEVERITY = (SKIP, PASS, WARN, FAIL, CRASH)  # ascending; the worst finding is the status of the check
LANGUAGES = ("en", "ko")
PREPARED = (
    "command",
    "first",
    "others",
)  # values that are already quoted for a shell; all others are quoted as one word

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
class FindingKind:
    """A row of the table: the check, the status, and message and fix in English and Korean."""

    check: str
    status: str
    message: Tuple[str, str]
    fix: Tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """A finding: its code, the values of its texts, and the evidence as the system reported it."""

    code: str
    evidence: str
    values: Tuple[Tuple[str, Tuple[str, str]], ...] = ()  # name, and text in English and Korean
    demoted: bool = False

    @property
    def status(self) -> str:
        """The status of the row; a failure of something optional is demoted to a warning."""
        status = CODES[self.code].status
        return WARN if self.demoted and status == FAIL else status

    def message(self, language: str = "en") -> str:
        """Return what is wrong, or what passed."""
        return self._filled(CODES[self.code].message, language)

    def fix(self, language: str = "en") -> str:
        """Return the fix, or an empty string. Values are quoted for a shell, since people paste fixes."""
        return self._filled(CODES[self.code].fix, language, quoted=True)

    def _filled(self, texts: Tuple[str, str], language: str, *, quoted: bool = False) -> str:
        column = LANGUAGES.index(language)
        words = {name: pair[column] for name, pair in self.values}
        if quoted:
            words = {name: text if name in PREPARED else shlex.quote(text) for name, text in words.items()}
        # In one pass, since a value may itself contain braces.
        return re.sub(r"{(\w+)}", lambda match: words.get(match[1], match[0]), texts[column])


def finding(code: str, evidence: str = "", /, **values: Any) -> Finding:
    """Return a finding; a value that is a pair is text in English and in Korean."""
    assert code in CODES, code  # noqa: S101 - a bug in a check
    pairs = ((name, value if isinstance(value, tuple) else (str(value), str(value))) for name, value in values.items())
    return Finding(code, evidence, tuple(pairs))


def _row(check: str, status: str, en: str, ko: str, fix_en: str = "", fix_ko: str = "") -> FindingKind:
    return FindingKind(check, status, (en, ko), (fix_en, fix_ko or fix_en))


_OTHER_HOST = (
    "Restart the pod or the host. If the problem remains, use another machine: it cannot be fixed inside a container.",
    "파드나 호스트를 재시작하세요. 문제가 계속되면 다른 머신을 사용하세요. 컨테이너 안에서는 해결할 수 없습니다.",
)
_RENT = (
    "Use a machine whose driver is {driver} or newer (RunPod: filter by CUDA {cuda} or newer).",
    "드라이버 {driver} 이상인 머신을 사용하세요(RunPod에서는 CUDA {cuda} 이상으로 필터링).",
)

_LESS_MEMORY = (
    "export WHISPER_COMPUTE_TYPE={instead}, choose a smaller WHISPER_MODEL, or stop other processes that use memory",
    "export WHISPER_COMPUTE_TYPE={instead}, 더 작은 WHISPER_MODEL을 선택하거나 메모리를 쓰는 다른 프로세스를 종료하세요",
)
_KEEP_COMPILED = (
    "Restart the pod and keep the compiled code: export CUDA_CACHE_PATH={cache}; then: {command}",
    "파드를 재시작하고 컴파일 캐시를 보존하세요: export CUDA_CACHE_PATH={cache}; 그다음: {command}",
)
_CANARY = (
    "Fix the problems of checks 2 and 3. If both pass, restart the pod or use another machine; then: {command}",
    "점검 2, 3의 문제를 먼저 해결하세요. 둘 다 정상이면 파드를 재시작하거나 다른 머신을 사용하세요. 그다음: {command}",
)

# fmt: off
CODES: Dict[str, FindingKind] = {
    # Any check
    "not_needed": _row("any", SKIP, "not needed: {why}", "필요 없음: {why}"),
    "check_crashed": _row(
        "any", CRASH, "the check itself crashed: {error}", "점검 중 내부 오류가 발생했습니다: {error}",
        "Report this with its output: python3 -m pipeline doctor --json",
        "다음 출력과 함께 제보해 주세요: python3 -m pipeline doctor --json",
    ),
    # 1 GPU and driver
    "gpu_fit": _row("gpu", PASS, "{name} can run the installed ctranslate2", "{name}: 설치된 ctranslate2를 실행할 수 있습니다"),
    "gpu_found": _row("gpu", PASS, "{name}; not compared with ctranslate2, which is missing or has no CUDA code", "{name}; ctranslate2가 없거나 CUDA 코드가 없어 비교하지 못했습니다"),
    "gpu_hot_spare": _row("gpu", WARN, "{name} is not usable, but other GPUs are", "{name}: 사용할 수 없음. 다른 GPU는 사용 가능",
        "Exclude it: export WHISPER_GPUS={indices}", "제외하세요: export WHISPER_GPUS={indices}"),
    "driver_absent": _row(
        "gpu", FAIL, "no NVIDIA driver found: libcuda.so.1 cannot be loaded",
        "NVIDIA 드라이버가 없습니다: libcuda.so.1을 로드할 수 없습니다",
        "Use a machine with a GPU, or run on the CPU: export WHISPER_DEVICE=cpu",
        "GPU가 있는 머신을 사용하거나 CPU로 실행하세요: export WHISPER_DEVICE=cpu",
    ),
    "driver_not_in_container": _row(
        "gpu", FAIL, "the host has an NVIDIA driver, but this container has no access to it",
        "호스트에는 NVIDIA 드라이버가 있지만 이 컨테이너에서는 사용할 수 없습니다",
        "Start the container with: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "컨테이너를 이렇게 시작하세요: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    "driver_library_broken": _row(
        "gpu", FAIL, "the driver's library is damaged: {reason}", "드라이버 라이브러리가 손상되었습니다: {reason}",
        *_OTHER_HOST),
    "driver_crashes": _row(
        "gpu", FAIL, "the driver crashes processes that call it: {ending}", "드라이버를 호출한 프로세스가 비정상 종료됩니다: {ending}",
        *_OTHER_HOST),
    "driver_hangs": _row(
        "gpu", FAIL, "the driver does not respond: {ending}", "드라이버가 응답하지 않습니다: {ending}", *_OTHER_HOST),
    "driver_mismatch": _row(
        "gpu", FAIL, "the driver's library and its kernel module have different versions (CUDA error {code})",
        "드라이버 라이브러리와 커널 모듈의 버전이 다릅니다(CUDA 오류 {code})", *_OTHER_HOST),
    "driver_failed": _row(
        "gpu", FAIL, "the driver cannot start: CUDA error {code}, {meaning}",
        "드라이버를 시작할 수 없습니다: CUDA 오류 {code}, {meaning}", *_OTHER_HOST),
    "driver_too_old": _row(
        "gpu", FAIL, "the driver supports CUDA {has}, but the installed ctranslate2 needs {cuda}",
        "드라이버는 CUDA {has}까지 지원하지만 설치된 ctranslate2에는 {cuda} 이상이 필요합니다", *_RENT),
    "driver_too_old_for_ptx": _row(
        "gpu", FAIL, "ctranslate2 has to be compiled for {name}, which needs a driver of CUDA {cuda}; this one supports {has}",
        "{name}에서는 드라이버가 ctranslate2의 PTX를 컴파일해야 하므로 CUDA {cuda} 드라이버가 필요합니다. 현재 {has}", *_RENT),
    "gpu_none": _row(
        "gpu", FAIL, "the driver works, but no GPU is visible", "드라이버는 동작하지만 GPU가 보이지 않습니다",
        "Give the container a GPU: docker run --gpus all; on RunPod choose a GPU pod",
        "컨테이너에 GPU를 할당하세요: docker run --gpus all; RunPod에서는 GPU 파드를 선택하세요"),
    "gpu_not_there": _row(
        "gpu", FAIL, "WHISPER_GPUS={wish} names a GPU that does not exist: {count} are visible",
        "WHISPER_GPUS={wish}에 존재하지 않는 GPU가 지정되었습니다. 인식된 GPU는 {count}개입니다", "export WHISPER_GPUS=all"),
    "gpu_hidden": _row(
        "gpu", FAIL, "CUDA_VISIBLE_DEVICES={value} hides every GPU", "CUDA_VISIBLE_DEVICES={value} 때문에 GPU가 숨겨졌습니다",
        "unset CUDA_VISIBLE_DEVICES"),
    "gpu_hidden_from_container": _row(
        "gpu", FAIL, "NVIDIA_VISIBLE_DEVICES={value} hides every GPU from this container",
        "NVIDIA_VISIBLE_DEVICES={value} 때문에 컨테이너에서 GPU가 보이지 않습니다",
        "Start the container with: docker run --gpus all -e NVIDIA_VISIBLE_DEVICES=all",
        "컨테이너를 이렇게 시작하세요: docker run --gpus all -e NVIDIA_VISIBLE_DEVICES=all"),
    "gpu_too_old": _row(
        "gpu", FAIL, "{name} (compute capability {capability}) is too old for the installed ctranslate2",
        "{name}(compute capability {capability})은(는) 설치된 ctranslate2가 지원하지 않는 구형 GPU입니다",
        "Use a GPU with compute capability {least} or more, or: export WHISPER_DEVICE=cpu",
        "compute capability {least} 이상의 GPU를 사용하거나: export WHISPER_DEVICE=cpu"),
    "gpu_prohibited": _row(
        "gpu", FAIL, "{name} does not accept work: its compute mode is Prohibited", "{name}: compute mode가 Prohibited여서 작업을 받지 않습니다",
        "On the host: nvidia-smi -i {index} -c DEFAULT", "호스트에서: nvidia-smi -i {index} -c DEFAULT"),
    "gpu_busy": _row(
        "gpu", FAIL, "{name} is in use by another process", "{name}: 다른 프로세스가 사용 중입니다",
        "Stop that process (nvidia-smi shows it), or on the host: nvidia-smi -i {index} -c DEFAULT",
        "그 프로세스를 종료하거나(nvidia-smi로 확인) 호스트에서: nvidia-smi -i {index} -c DEFAULT"),
    "gpu_memory_full": _row(
        "gpu", FAIL, "{name} has no free memory", "{name}: 여유 메모리가 없습니다",
        "Stop the processes that use it: nvidia-smi --query-compute-apps=pid,used_memory --format=csv",
        "메모리를 쓰는 프로세스를 종료하세요: nvidia-smi --query-compute-apps=pid,used_memory --format=csv"),
    "gpu_broken": _row(
        "gpu", FAIL, "{name} cannot be used: CUDA error {code}, {meaning}",
        "{name}: 사용할 수 없습니다. CUDA 오류 {code}, {meaning}", *_OTHER_HOST),
    "gpu_ecc_errors": _row(
        "gpu", FAIL, "{name} has {count} uncorrectable memory errors",
        "{name}: 정정 불가 메모리 오류가 {count}건 있습니다", *_OTHER_HOST),
    "gpu_remapping_failed": _row(
        "gpu", FAIL, "{name} has defective memory that could not be remapped", "{name}: 불량 메모리를 대체하지 못했습니다",
        *_OTHER_HOST),
    "gpu_pages_pending": _row(
        "gpu", WARN, "{name} needs a restart to retire defective memory", "{name}: 불량 메모리를 격리하려면 재시작해야 합니다",
        *_OTHER_HOST),
    "gpu_shared": _row(
        "gpu", WARN, "other processes use {used} of {total} MiB of {name}",
        "다른 프로세스가 {name} 메모리 {total} MiB 중 {used} MiB를 사용 중입니다",
        "List them: nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv",
        "확인: nvidia-smi --query-compute-apps=pid,name,used_memory --format=csv"),
    "nvidia_smi_missing": _row("gpu", PASS, "nvidia-smi is not installed; the driver was queried directly",
        "nvidia-smi가 설치되어 있지 않아 드라이버를 직접 조회했습니다"),
    "nvidia_smi_agrees": _row("gpu", PASS, "nvidia-smi shows {name}: {health}", "nvidia-smi에서 {name} 확인: {health}"),
    "nvidia_smi_hangs": _row(
        "gpu", WARN, "nvidia-smi does not respond: {ending}", "nvidia-smi가 응답하지 않습니다: {ending}", *_OTHER_HOST),
    "nvidia_smi_mismatch": _row(
        "gpu", FAIL, "nvidia-smi: the driver's library and its kernel module have different versions",
        "nvidia-smi: 드라이버 라이브러리와 커널 모듈의 버전이 다릅니다", *_OTHER_HOST),
    "nvidia_smi_unknown_error": _row(
        "gpu", FAIL, "nvidia-smi reports an unknown error: the container has lost access to its GPU",
        "nvidia-smi가 알 수 없는 오류를 보고합니다: 컨테이너가 GPU에 접근할 수 없게 되었습니다", *_OTHER_HOST),
    "nvidia_smi_failed": _row("gpu", WARN, "nvidia-smi fails: {ending}", "nvidia-smi 실패: {ending}", *_OTHER_HOST),
    "canary_passed": _row("gpu", PASS, "a small model ran on the GPU in {seconds} s",
        "작은 모델이 GPU에서 {seconds}초 만에 실행되었습니다"),
    "canary_killed": _row(
        "gpu", FAIL, "a small model crashed on the GPU: {ending}", "GPU에서 작은 모델을 실행하다가 비정상 종료되었습니다: {ending}",
        *_CANARY),
    "canary_hangs": _row(
        "gpu", FAIL, "a small model hangs on the GPU: {ending}", "GPU에서 작은 모델 실행이 끝나지 않습니다: {ending}",
        *_KEEP_COMPILED),
    "canary_failed": _row(
        "gpu", FAIL, "a small model cannot run on the GPU: {reason}", "GPU에서 작은 모델을 실행할 수 없습니다: {reason}",
        *_CANARY),
    "canary_out_of_memory": _row(
        "gpu", FAIL, "the GPU has too little free memory even for a small model", "작은 모델에도 GPU 메모리가 부족합니다",
        "Stop the processes that use it: nvidia-smi --query-compute-apps=pid,used_memory --format=csv",
        "메모리를 쓰는 프로세스를 종료하세요: nvidia-smi --query-compute-apps=pid,used_memory --format=csv"),
    "canary_on_cpu": _row(
        "gpu", FAIL, "the model was requested on the GPU, but ran on the {device}", "GPU를 요청했지만 {device}에서 실행되었습니다",
        "{command}"),
    # 2 CUDA libraries
    "build_missing": _row(
        "cuda", FAIL, "ctranslate2 is not installed, so the CUDA libraries it needs are unknown",
        "ctranslate2가 설치되지 않아 필요한 CUDA 라이브러리를 알 수 없습니다", "{command}"),
    "build_damaged": _row(
        "cuda", FAIL, "the native library of ctranslate2 is damaged ({problem})",
        "ctranslate2의 네이티브 라이브러리가 손상되었습니다({problem})", "{command}"),
    "build_without_cuda": _row(
        "cuda", FAIL, "this build of ctranslate2 does not support CUDA", "이 ctranslate2 빌드는 CUDA를 지원하지 않습니다", "{command}"),
    "library_loaded": _row("cuda", PASS, "{name} loads", "{name}: 로드됨"),
    "library_missing": _row("cuda", FAIL, "{name} is not installed", "{name}이(가) 설치되지 않았습니다", "{command}"),
    "library_damaged": _row(
        "cuda", FAIL, "{name} is damaged ({problem})", "{name}: 손상된 라이브러리입니다({problem})", "{command}"),
    "library_passed_over": _row(
        "cuda", WARN, "a damaged copy of {name} ({problem}) comes first in the search order and is skipped",
        "검색 순서가 앞선 {name}이(가) 손상되어({problem}) 건너뜁니다", "rm {path}"),
    "library_wrong_major": _row(
        "cuda", FAIL, "found {seen}, but the installed ctranslate2 needs {name}", "{seen}만 있습니다. 설치된 ctranslate2에는 {name}이(가) 필요합니다",
        "{command}"),
    "library_refused": _row(
        "cuda", FAIL, "{name} cannot be loaded: {reason}", "{name}을(를) 로드할 수 없습니다: {reason}", "{command}"),
    "library_kills": _row(
        "cuda", FAIL, "loading {name} crashes the process: {ending}", "{name}을(를) 로드하면 프로세스가 비정상 종료됩니다: {ending}",
        "{command}"),
    "library_hangs": _row(
        "cuda", FAIL, "loading {name} hangs: {ending}", "{name} 로드가 끝나지 않습니다: {ending}", "{command}"),
    "library_not_opened": _row(
        "cuda", FAIL, "ctranslate2 cannot open {name}: {reason}",
        "ctranslate2가 {name}을(를) 열 수 없습니다: {reason}", "{command}"),
    # 3 cuDNN
    "cudnn_not_used": _row("cudnn", PASS, "this build of ctranslate2 ({version}) does not use cuDNN",
        "이 ctranslate2 빌드({version})는 cuDNN을 사용하지 않습니다"),
    "cudnn_loaded": _row("cudnn", PASS, "{name} loads", "{name}: 로드됨"),
    "cudnn_missing": _row("cudnn", FAIL, "{name} is not installed", "{name}이(가) 설치되지 않았습니다", "{command}"),
    "cudnn_damaged": _row(
        "cudnn", FAIL, "{name} is damaged ({problem})", "{name}: 손상된 라이브러리입니다({problem})", "{command}"),
    "cudnn_other_cuda": _row(
        "cudnn", FAIL, "{name} was built for another CUDA version than {cuda}: it loads, but aborts when used",
        "{name}은(는) CUDA {cuda}용이 아니어서 로드되더라도 사용 중에 비정상 종료됩니다", "{command}"),
    "cudnn_wrong_major": _row(
        "cudnn", FAIL, "found {seen}, but the installed ctranslate2 needs {name}", "{seen}만 있습니다. 설치된 ctranslate2에는 {name}이(가) 필요합니다",
        "{command}"),
    "cudnn_mixed": _row(
        "cudnn", FAIL, "the parts of cuDNN have different versions: {versions}",
        "cuDNN 구성 파일의 버전이 서로 다릅니다: {versions}", "{command}"),
    "cudnn_duplicates": _row(
        "cudnn", WARN, "cuDNN is installed more than once; {chosen} is used", "cuDNN이 여러 개 설치되어 있으며 {chosen}을(를) 사용합니다",
        "Remove the copies that are not needed: {others}", "필요 없는 사본을 제거하세요: {others}"),
    "cudnn_refused": _row(
        "cudnn", FAIL, "{name} cannot be loaded: {reason}", "{name}을(를) 로드할 수 없습니다: {reason}", "{command}"),
    "cudnn_kills": _row(
        "cudnn", FAIL, "loading {name} crashes the process: {ending}", "{name}을(를) 로드하면 프로세스가 비정상 종료됩니다: {ending}",
        "{command}"),
    "cudnn_hangs": _row(
        "cudnn", FAIL, "loading {name} hangs: {ending}", "{name} 로드가 끝나지 않습니다: {ending}", "{command}"),
    # 4 FFmpeg
    "ffmpeg_fit": _row("ffmpeg", PASS, "FFmpeg {version} decodes {formats}", "FFmpeg {version}: {formats} 디코딩 가능"),
    "ffmpeg_missing": _row("ffmpeg", FAIL, "{program} is not on PATH", "PATH에 {program}이(가) 없습니다", "{command}"),
    "ffmpeg_broken": _row(
        "ffmpeg", FAIL, "{program} does not run: {ending}", "{program}이(가) 실행되지 않습니다: {ending}", "{command}"),
    "ffmpeg_cannot_decode": _row(
        "ffmpeg", FAIL, "FFmpeg {version} cannot decode {format}", "FFmpeg {version}: {format}을(를) 디코딩할 수 없습니다",
        "{command}"),
    "ffmpeg_old": _row(
        "ffmpeg", WARN, "FFmpeg {version} is older than {least}, the oldest tested version",
        "FFmpeg {version}은(는) 테스트된 최소 버전 {least}보다 오래되었습니다", "{command}"),
    # 5 Python
    "python_fit": _row("python", PASS, "Python {version}", "파이썬 {version}"),
    "python_too_old": _row(
        "python", FAIL, "the workers' Python is {version}; Voicemill needs 3.11, 3.12 or 3.13",
        "워커의 파이썬이 {version}입니다. 3.11, 3.12, 3.13이 필요합니다", "{command}"),
    "python_too_new": _row(
        "python", FAIL, "the workers' Python is {version}; Voicemill is tested up to 3.13",
        "워커의 파이썬이 {version}입니다. 3.13까지 테스트되었습니다", "{command}"),
    "python_broken": _row(
        "python", FAIL, "the workers' Python does not run: {reason}", "워커의 파이썬이 실행되지 않습니다: {reason}", "{command}"),
    "python_no_venv": _row(
        "python", WARN, "no virtual environment is used: packages of the system and of the project mix",
        "가상 환경을 사용하지 않아 시스템 패키지와 프로젝트 패키지가 섞입니다", "{command}"),
    "python_other": _row(
        "python", WARN, "the doctor runs in {here} and checks the workers' Python, {there}",
        "점검은 {here}에서 실행되며 워커의 파이썬 {there}을(를) 검사합니다", "{command}"),
    "env_file_unreadable": _row(
        "python", FAIL, "workers do not start: {reason}", "워커가 시작되지 않습니다: {reason}",
        "Save {file} as UTF-8 text that the workers can read; to convert it from CP949: "
        "iconv -f cp949 -t utf-8 {file} > {file}.new && mv {file}.new {file}",
        "{file}을(를) 워커가 읽을 수 있는 UTF-8 텍스트 파일로 저장하세요. CP949에서 변환하려면: "
        "iconv -f cp949 -t utf-8 {file} > {file}.new && mv {file}.new {file}"),
    # 6 Packages
    "packages_fit": _row("packages", PASS, "all {count} packages for {stages} are installed in compatible versions",
        "{stages}에 필요한 패키지 {count}개가 호환되는 버전으로 설치되어 있습니다"),
    "package_missing": _row(
        "packages", FAIL, "{package} is not installed; {needed_by} needs {wanted}",
        "{package}이(가) 설치되지 않았습니다. {needed_by}에 {wanted}이(가) 필요합니다", "{command}"),
    "package_unfit": _row(
        "packages", FAIL, "{package} {version} is installed, but {needed_by} needs {wanted}",
        "{package} {version}이(가) 설치되어 있지만 {needed_by}에는 {wanted}이(가) 필요합니다", "{command}"),
    "executable_stack": _row(
        "packages", FAIL, "ctranslate2 {version} requires an executable stack, which glibc {glibc} does not allow",
        "ctranslate2 {version}에는 실행 가능한 스택이 필요하지만 glibc {glibc}은(는) 이를 허용하지 않습니다", "{command}"),
    "executable_stack_later": _row(
        "packages", WARN, "ctranslate2 {version} requires an executable stack, which glibc 2.41 and later do not allow",
        "ctranslate2 {version}에는 실행 가능한 스택이 필요해 glibc 2.41 이상에서는 로드되지 않습니다", "{command}"),
    # 7 Model
    "setting_unknown": _row(
        "model", FAIL, "workers do not start with {name}={value}; accepted values: {allowed}",
        "{name}={value}(으)로는 워커가 시작되지 않습니다. 사용 가능한 값: {allowed}", "export {name}=auto"),
    "model_fit": _row("model", PASS, "{model} is complete ({size} MB)", "{model}: 정상({size} MB)"),
    "model_in_parts": _row("model", PASS, "{model} is complete ({size} MB), in parts that are joined at the first start",
        "{model}: 정상({size} MB), 나뉜 파일은 첫 시작 때 합쳐집니다"),
    "model_unknown": _row(
        "model", FAIL, "unknown model {model}", "알 수 없는 모델입니다: {model}",
        "export WHISPER_MODEL=small (a folder, a name from the hub, bundled:tiny.en or bundled:base)",
        "export WHISPER_MODEL=small (폴더, 허브 이름, bundled:tiny.en 또는 bundled:base)"),
    "model_folder_missing": _row(
        "model", FAIL, "the folder {model} does not exist", "{model} 폴더가 없습니다",
        "Correct WHISPER_MODEL, or: export WHISPER_MODEL=small", "WHISPER_MODEL을 수정하거나: export WHISPER_MODEL=small"),
    "model_package_missing": _row(
        "model", FAIL, "{model} is not installed: package {package} is missing",
        "{model}이(가) 설치되지 않았습니다: 패키지 {package} 없음", "{command}"),
    "model_file_missing": _row(
        "model", FAIL, "{folder} does not contain {file}", "{folder}에 {file}이(가) 없습니다", "{command}"),
    "model_lfs_pointer": _row(
        "model", FAIL, "{file} is a Git LFS pointer, not the weights", "{file}은(는) 가중치가 아니라 Git LFS 포인터입니다",
        "{command}"),
    "model_empty": _row("model", FAIL, "{file} is empty", "{file}이(가) 비어 있습니다", "{command}"),
    "model_truncated": _row(
        "model", FAIL, "{file} is truncated: it has {has} of {wanted} bytes",
        "{file}이(가) 잘려 있습니다: {wanted} 바이트 중 {has} 바이트", "{command}"),
    "model_foreign": _row(
        "model", FAIL, "{file} is not a Whisper model for CTranslate2: {reason}",
        "{file}은(는) CTranslate2용 Whisper 모델이 아닙니다: {reason}", "{command}"),
    "model_damaged": _row("model", FAIL, "{file} cannot be read: {reason}", "{file}을(를) 읽을 수 없습니다: {reason}",
        "{command}"),
    "model_to_fetch": _row(
        "model", WARN, "{model} is not downloaded yet; the first start downloads it from the hub",
        "{model}을(를) 아직 내려받지 않았습니다. 첫 시작 때 허브에서 내려받습니다", "{command}"),
    "model_out_of_reach": _row(
        "model", FAIL, "{model} is not downloaded, and the hub {host} cannot be reached: {reason}",
        "{model}을(를) 내려받지 않았고 허브 {host}에도 연결할 수 없습니다: {reason}",
        "Set WHISPER_MODEL to a folder with the model, or: export WHISPER_MODEL=bundled:base && {command}",
        "WHISPER_MODEL에 모델 폴더를 지정하거나: export WHISPER_MODEL=bundled:base && {command}"),
    "model_disk_full": _row(
        "model", FAIL, "{folder} has {free} MB free, but {model} needs {wanted} MB",
        "{folder}의 여유 공간은 {free} MB지만 {model}에는 {wanted} MB가 필요합니다",
        "Free space, or: export WHISPER_MODEL_DIR=/a/larger/disk",
        "공간을 확보하거나: export WHISPER_MODEL_DIR=/a/larger/disk"),
    "model_folder_read_only": _row(
        "model", FAIL, "{folder} is not writable", "{folder}에 쓸 수 없습니다",
        "export WHISPER_MODEL_DIR=/a/folder/of/yours"),
    "model_too_large_for_gpu": _row(
        "model", FAIL, "{model} needs about {wanted} MB as {compute}, but {name} has {free} MB free",
        "{model}({compute})에는 약 {wanted} MB가 필요하지만 {name}의 여유 메모리는 {free} MB입니다",
        "export WHISPER_COMPUTE_TYPE=int8_float16, choose a smaller WHISPER_MODEL, or stop other processes on the GPU",
        "export WHISPER_COMPUTE_TYPE=int8_float16, 더 작은 WHISPER_MODEL을 선택하거나 GPU를 쓰는 다른 프로세스를 종료하세요"),
    "model_compute_type": _row(
        "model", FAIL, "{device} does not support {compute}", "{device}은(는) {compute}을(를) 지원하지 않습니다",
        "export WHISPER_COMPUTE_TYPE={instead}"),
    "model_ran": _row("model", PASS, "{compute}: loaded in {load} s, one second of speech in {run} s, {memory}",
        "{compute}: 로드 {load}초, 음성 1초 처리 {run}초, {memory}"),
    "model_not_run": _row(
        "model", FAIL, "the model was not run: {why}", "모델을 실행하지 않았습니다: {why}",
        "First: {first}; then: {command}", "먼저: {first}; 그다음: {command}"),
    "model_run_hangs": _row(
        "model", FAIL, "{compute}: the model hangs: {ending}", "{compute}: 모델 실행이 끝나지 않습니다: {ending}",
        *_KEEP_COMPILED),
    "model_run_out_of_memory": _row(
        "model", FAIL, "{compute}: not enough memory to run the model", "{compute}: 모델을 실행할 메모리가 부족합니다",
        *_LESS_MEMORY),
    "model_run_killed": _row(
        "model", FAIL, "{compute}: the model crashed: {ending}", "{compute}: 모델을 실행하다가 비정상 종료되었습니다: {ending}",
        *_CANARY),
    "model_run_failed": _row(
        "model", FAIL, "{compute}: the model failed: {reason}", "{compute}: 모델 실행에 실패했습니다: {reason}",
        "{command}"),
    # 8 Redis
    "redis_fit": _row("redis", PASS, "{product} {version} responds in {milliseconds} ms",
        "{product} {version}: 응답 {milliseconds} ms"),
    "redis_url_invalid": _row(
        "redis", FAIL, "REDIS_URL is invalid: {reason}", "REDIS_URL이 올바르지 않습니다: {reason}",
        f"export REDIS_URL={DEFAULT_URL}"),
    "redis_unresolved": _row(
        "redis", FAIL, "host name {host} cannot be resolved", "호스트 이름 {host}을(를) 확인할 수 없습니다",
        "Correct REDIS_URL or the DNS configuration; to test it: getent hosts {host}", "REDIS_URL이나 DNS 설정을 수정하세요. 확인: getent hosts {host}"),
    "redis_down": _row(
        "redis", FAIL, "cannot connect to {place}: {reason}", "{place}에 연결할 수 없습니다: {reason}", "{command}"),
    "redis_hangs": _row(
        "redis", FAIL, "{place} does not respond or is too slow: more than {seconds} s for one reply or {whole} s for all",
        "{place}이(가) 응답하지 않거나 너무 느립니다: 응답 하나에 {seconds}초 또는 전체 {whole}초 초과",
        "Check that {place} is the address of Redis and that no firewall drops its packets",
        "{place}이(가) Redis 주소가 맞는지, 방화벽이 막고 있지 않은지 확인하세요"),
    "redis_not_redis": _row(
        "redis", FAIL, "the server at {place} is not Redis, or requires TLS: {reason}",
        "{place}의 서버가 Redis가 아니거나 TLS가 필요합니다: {reason}",
        "Correct REDIS_URL; with TLS it starts with rediss://", "REDIS_URL을 수정하세요. TLS를 쓰면 rediss://로 시작해야 합니다"),
    "redis_tls_refused": _row(
        "redis", FAIL, "the TLS certificate of {place} is not trusted: {reason}",
        "{place}의 TLS 인증서를 신뢰할 수 없습니다: {reason}", "export REDIS_CA_CERTS=/path/to/ca.pem"),
    "redis_tls_failed": _row(
        "redis", FAIL, "the TLS handshake with {place} failed: {reason}", "{place}과(와) TLS 연결에 실패했습니다: {reason}",
        "Use redis:// instead of rediss://, or enable TLS on the server",
        "rediss:// 대신 redis://를 쓰거나 서버에서 TLS를 켜세요"),
    "redis_login_refused": _row(
        "redis", FAIL, "login rejected: {reason}", "로그인이 거부되었습니다: {reason}",
        "export REDIS_PASSWORD=... (and REDIS_USERNAME for an ACL user)",
        "export REDIS_PASSWORD=... (ACL 사용자는 REDIS_USERNAME도)"),
    "redis_not_permitted": _row(
        "redis", FAIL, "the user has no permission for {name}: {reason}", "{name} 명령을 실행할 권한이 없습니다: {reason}",
        "ACL SETUSER {user} +@all ~" + NAMESPACE + "*"),
    "redis_loading": _row(
        "redis", WARN, "Redis is still loading its data: {reason}", "Redis가 데이터를 불러오는 중입니다: {reason}",
        "Wait until it has finished; workers wait for REDIS_START_TIMEOUT", "완료될 때까지 기다리세요. 워커는 REDIS_START_TIMEOUT 동안 기다립니다"),
    "redis_read_only": _row(
        "redis", FAIL, "Redis is a read-only replica", "Redis가 읽기 전용 복제본입니다", "Set REDIS_URL to the primary",
        "REDIS_URL을 주(primary) 서버로 바꾸세요"),
    "redis_old": _row(
        "redis", FAIL, "Redis {version} is older than {least}, the minimum", "Redis {version}은(는) 최소 버전 {least}보다 오래되었습니다",
        "Upgrade Redis to 6.2 or later, or use: {command}", "Redis를 6.2 이상으로 업그레이드하거나: {command}"),
    "redis_evicts": _row(
        "redis", FAIL, "maxmemory-policy is {policy}: jobs are silently deleted when memory runs out",
        "maxmemory-policy가 {policy}입니다. 메모리가 부족해지면 작업이 오류 없이 삭제됩니다", "{command}"),
    "redis_memory_full": _row(
        "redis", FAIL, "Redis uses {percent} % of maxmemory: new jobs will soon be rejected", "Redis가 maxmemory의 {percent} %를 사용 중입니다. 곧 새 작업을 받을 수 없게 됩니다",
        "Raise maxmemory, or lower RESULT_TTL and HANDOFF_TTL", "maxmemory를 늘리거나 RESULT_TTL, HANDOFF_TTL을 줄이세요"),
    "redis_not_persistent": _row(
        "redis", WARN, "Redis does not write to disk: a restart loses every waiting job",
        "Redis가 디스크에 저장하지 않습니다. 재시작하면 대기 중인 작업이 모두 사라집니다", "{command}"),
    "redis_no_blocking": _row(
        "redis", WARN, "BLMOVE is not permitted: workers poll instead, which delays each message by up to a second",
        "BLMOVE 권한이 없어 워커가 폴링합니다. 메시지마다 최대 1초가 더 걸립니다",
        "Allow BLMOVE: ACL SETUSER {user} +blmove", "BLMOVE를 허용하세요: ACL SETUSER {user} +blmove"),
    "redis_slow": _row(
        "redis", WARN, "a round trip to Redis takes {milliseconds} ms", "Redis 왕복 시간이 {milliseconds} ms입니다",
        "Run Redis in the same region as the workers", "Redis를 워커와 같은 리전에서 실행하세요"),
    "redis_clock": _row(
        "redis", WARN, "the clock of the Redis server differs from this machine's by {seconds} s", "Redis 서버와 이 머신의 시계가 {seconds}초 차이 납니다",
        "timedatectl set-ntp true"),
}
# fmt: on
