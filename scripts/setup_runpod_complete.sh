#!/bin/sh
# Makes a GPU machine fit for Voicemill: asks the doctor what is missing, installs just that, and asks it again.
#
#   --dry-run   print the plan and change nothing
#   --yes       do not ask before installing
#   --apt       CUDA libraries as system packages of NVIDIA's apt repository, which has to be set up, instead of by pip
#
# It may be run any number of times, also after a failure: what is done is not done again. Exit codes: those of the
# doctor at the end (0 fit, 1 not), 2 wrong usage.
set -eu
cd "$(dirname "$0")/.."

dry= yes= apt=
for argument in "$@"; do
    case "$argument" in
        --dry-run) dry=1 ;;
        --yes) yes=1 ;;
        --apt) apt=1 ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "setup_runpod_complete.sh: unknown option $argument (--dry-run, --yes, --apt)" >&2; exit 2 ;;
    esac
done

venv=.venv
python=$venv/bin/python
number=0

# step TEXT COMMAND...: one line of the plan, and its work unless this is a dry run
step() {
    number=$((number + 1))
    echo "[$number] $1"
    shift
    if [ -n "$dry" ]; then
        echo "    would run: $*"
    elif ! "$@"; then
        echo "Step $number failed. Mend what it says above and run this script again: it goes on from there." >&2
        exit 1
    fi
}

# finds CODE...: whether the doctor's last report has one of these findings
finds() {
    for code in "$@"; do
        case "$report" in *"\"code\": \"$code\""*) return 0 ;; esac
    done
    return 1
}

examine() { # what the doctor says, whatever its verdict
    report=$(sh scripts/check_runpod_environment.sh --stage transcribe --json --lang en "$@" || true)
}

if [ -z "$dry" ] && [ -z "$yes" ]; then
    printf 'This installs what is missing on this machine (see --dry-run). Go on? [y/N] '
    read -r answer
    case "$answer" in y | Y | yes) ;; *) echo "Nothing was changed."; exit 1 ;; esac
fi

if [ -z "${WHISPER_MODEL_DIR:-}" ] && [ -d /workspace ]; then
    WHISPER_MODEL_DIR=/workspace/models
    export WHISPER_MODEL_DIR
fi

if ! command -v ffmpeg >/dev/null 2>&1 || ! command -v ffprobe >/dev/null 2>&1; then
    step "FFmpeg, by apt" sh scripts/install_programs.sh ffmpeg ffprobe
fi

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    step "A virtual environment in $venv" sh scripts/make_venv.sh "$venv"
fi

packages=$(sh scripts/check_runpod_environment.sh --device cpu --only packages --json --lang en || true)
case "$packages" in
    *package_missing* | *package_unfit* | *executable_stack* | *python_broken* | "")
        step "The Python packages of requirements.txt" \
            "$python" -m pip install --disable-pip-version-check --no-input -r requirements.txt ;;
esac

# The CUDA libraries that the ctranslate2 of requirements.txt wants: the doctor reads it from the build and names the package.
examine --only cuda
if finds library_missing library_damaged library_wrong_major library_refused library_kills build_missing; then
    if [ -n "$apt" ]; then
        step "cuBLAS of CUDA 12.8, by apt" sh scripts/install_programs.sh --package libcublas-12-8
    else
        step "cuBLAS of CUDA 12, by pip (about 600 MB)" "$python" -m pip install --disable-pip-version-check --no-input \
            --force-reinstall --no-deps "nvidia-cublas-cu12==12.8.4.1"
    fi
fi

examine --only model
if finds model_to_fetch model_truncated model_empty model_damaged; then
    step "The Whisper model ${WHISPER_MODEL:-small}, into ${WHISPER_MODEL_DIR:-the hub cache}" "$python" -c "
from config import environment
environment.load()
from config import settings
from pipeline.transcribe import models
chosen = settings.get()
print(models.resolve(chosen.whisper_model, chosen.whisper_model_dir))"
fi

if [ "$number" = 0 ]; then
    echo "Nothing is missing that could be installed."
fi
if [ -n "$dry" ]; then
    exit 0
fi
exec sh scripts/check_runpod_environment.sh
