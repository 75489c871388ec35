#!/bin/sh
# Makes a virtual environment in $1, unless there is a usable one. Its Python is one that Voicemill supports, installed by
# apt if there is none; PYTHON overrides the choice.
set -eu
scripts=$(dirname "$0")

if reason=$(sh "$scripts/python.sh" check "$1"); then exit 0; fi

python=$(sh "$scripts/python.sh" install)
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    sh "$scripts/install_programs.sh" --package "$version-venv"
fi
[ -z "$reason" ] || echo "Replacing $1: $reason"
rm -rf -- "$1"
echo "Making $1 with $("$python" --version)"
trap 'rm -rf -- "$1"' EXIT # an incomplete environment would look complete
trap 'exit 130' HUP INT TERM
mkdir -p "$1"
: > "$1/.unfinished" # in case of SIGKILL
"$python" -m venv "$1"

# Older pips, such as the 22.0 of Ubuntu 22.04, find no packages for a pre-release of Python.
if ! said=$("$1/bin/python" -m pip install --disable-pip-version-check --no-input \
    -r "$scripts/../requirements-pip.txt" 2>&1); then
    printf '%s\n' "$said" | tail -n 3 >&2
    if ! PYTHON="$1/bin/python" sh "$scripts/python.sh" find >/dev/null; then
        echo "$("$python" --version) is a pre-release, which needs the pip of requirements-pip.txt; it could not be" \
            "installed. Make the package index reachable, or name a final release: PYTHON=/path/to/python" >&2
        exit 1
    fi
    echo "pip was not upgraded; continuing with $("$1/bin/python" -m pip --version)" >&2
fi
rm -f "$1/.unfinished"
trap - EXIT
