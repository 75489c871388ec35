#!/bin/sh
# Installs some of the packages that a requirements file pins, with their hashes checked and without dependencies:
# install_pinned.sh PYTHON FILE PACKAGE...
set -eu
python=$1 file=$2
shift 2

chosen=$(mktemp)
trap 'rm -f "$chosen"' EXIT
awk -v names="$*" 'BEGIN { split(names, list, " "); for (i in list) wanted[list[i]] }
    /^[a-z]/ { split($1, pin, "=="); on = pin[1] in wanted } on && !/^ *#/' "$file" > "$chosen"
"$python" -m pip install --disable-pip-version-check --no-input --no-deps -r "$chosen"
