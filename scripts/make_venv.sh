#!/bin/sh
# Makes a virtual environment in $1, unless a whole one is there, with the first Python that Voicemill supports;
# PYTHON overrules the choice.
set -eu

"$1/bin/python" -m pip --version >/dev/null 2>&1 && exit 0

supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

venv=$1
if [ -n "${PYTHON:-}" ]; then
    set -- "$PYTHON"
else
    set -- python3 python3.13 python3.12 python3.11
fi
for python in "$@"; do
    if "$python" -c "$supported" 2>/dev/null; then
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
            sh "$(dirname "$0")/install_programs.sh" --package "$version-venv"
        fi
        rm -rf -- "$venv"
        echo "Making $venv with $("$python" --version)"
        trap 'rm -rf -- "$venv"' EXIT # half an environment would look like a whole one
        trap 'exit 130' HUP INT TERM
        "$python" -m venv "$venv"
        trap - EXIT
        exit 0
    fi
done
echo "Voicemill needs Python 3.11, 3.12 or 3.13, and none was found." >&2
echo "Install one, for example: apt-get install python3.11 python3.11-venv; or name it: make PYTHON=/path/to/python" >&2
exit 1
