#!/bin/sh
# Checks whether this GPU machine can run Voicemill, and prints the command that fixes it: the doctor with the right
# Python. Arguments are the doctor's; see --help. Exit codes: 0 fit, 1 not, 2 wrong usage, 127 no Python.
set -eu
cd "$(dirname "$0")/.."

device="--device cuda"
for argument in "$@"; do
    case "$argument" in --device | --device=*) device= ;; esac
done

for python in .venv/bin/python "${VIRTUAL_ENV:-/none}/bin/python" python3 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
        exec "$python" -m pipeline doctor $device "$@"
    fi
done
echo "There is no Python 3.8 or later here. Install one: apt-get update && apt-get install -y python3" >&2
exit 127
