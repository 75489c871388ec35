#!/bin/sh
# The Pythons that Voicemill supports, for the other scripts and the Makefile:
#
#   python.sh find        prints the command of an installed one; exits 3 if that is a pre-release, 1 if there is none
#   python.sh offer       prints the version that apt would install, from the package lists that are on this machine
#   python.sh install     like find, but installs one by apt if there is none
#   python.sh check DIR   exits 0 if the virtual environment in DIR can be used; otherwise 1, and prints the reason
#
# PYTHON names the Python to use instead of any other. A pre-release is used only where no final release can be had.
set -eu
scripts=$(dirname "$0")
versions="3.13 3.12 3.11" # requires-python in pyproject.toml, newest first
named="Python 3.11, 3.12 or 3.13"

# rate PYTHON: returns 0 for a supported final release, 3 for a pre-release of one, anything else if it cannot be used
rate() {
    "$1" -c '
import sys
supported = "%d.%d" % sys.version_info[:2] in sys.argv[1].split()
sys.exit((0 if sys.version_info[3] == "final" else 3) if supported else 1)' "$versions" 2>/dev/null
}

find_python() {
    early=
    for python in python3 $(printf 'python%s ' $versions); do
        rating=0
        rate "$python" || rating=$?
        case $rating in
            0) echo "$python"; return 0 ;;
            3) early=${early:-$python} ;;
        esac
    done
    [ -n "$early" ] || return 1
    echo "$early"
    return 3
}

candidate() { # the version of a package that apt would install
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: *\([^(]\)/\1/p'
}

offer() { # the distribution's default version first: more of its packages are made for that one
    early=
    command -v apt-cache >/dev/null 2>&1 || return 1
    default=$(candidate python3 | sed 's/^\([0-9]*\.[0-9]*\).*/\1/')
    for version in $default $versions; do
        case " $versions " in *" $version "*) ;; *) continue ;; esac
        [ -n "$(candidate "python$version-venv")" ] || continue
        release=$(candidate "python$version")
        case ${release%%-*} in
            "") ;;
            *~*) early=${early:-$version} ;; # 3.11.0~rc1
            *) echo "$version"; return 0 ;;
        esac
    done
    [ -n "$early" ] || return 1
    echo "$early"
    return 3
}

install() {
    rating=0
    python=$(find_python) || rating=$?
    if [ "$rating" = 0 ]; then
        echo "$python"
        return 0
    fi
    rating=0
    version=$(offer) || rating=$?
    if [ "$rating" != 0 ] && sh "$scripts/install_programs.sh" --update; then # the lists may be missing or old
        rating=0
        version=$(offer) || rating=$?
    fi
    if [ -n "$python" ] && [ "$rating" != 0 ]; then
        echo "$python"
    elif [ -n "$version" ]; then
        sh "$scripts/install_programs.sh" --package "python$version" "python$version-venv" >&2 || return 1
        echo "python$version"
    else
        echo "Voicemill needs $named; this machine has none, and apt offers none." >&2
        advise
        return 1
    fi
}

advise() {
    echo "Install one (on Debian and Ubuntu the first of these packages that apt has:$(printf ' python%s-venv' $versions))," \
        "or name one that is not on PATH: PYTHON=/path/to/python" >&2
}

use_named() {
    rating=0
    rate "$PYTHON" || rating=$?
    case $rating in
        0 | 3) echo "$PYTHON"; return "$rating" ;;
    esac
    if found=$("$PYTHON" --version 2>&1); then found="is $found"; else found="does not run"; fi
    echo "PYTHON=$PYTHON $found; Voicemill needs $named." >&2
    advise
    return 1
}

check() {
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 1; fi
    if [ -e "$1/.unfinished" ]; then
        echo "its set-up was interrupted"
    elif reason=$("$1/bin/python" -c '
import os, re, sys
where, supported, named = sys.argv[1], sys.argv[2].split(), sys.argv[3]
def refuse(reason):
    print(reason)
    sys.exit(1)
if "%d.%d" % sys.version_info[:2] not in supported:
    refuse("its Python is %s; Voicemill needs %s" % (sys.version.split()[0], named))
if not os.path.samefile(sys.prefix, where):
    refuse("its Python uses %s" % sys.prefix)
try:
    with open(os.path.join(where, "bin", "pip"), "rb") as script:
        made = re.search(b"(?:#!|exec. \"?)(/[^\"\n]*)/bin/python", script.read(1000))
except OSError:
    made = None
home = os.fsdecode(made.group(1)) if made else where
if not os.path.exists(home) or not os.path.samefile(home, where):
    refuse("it was made as %s, which its programs still name" % home)
' "$1" "$versions" "$named" 2>/dev/null); then
        "$1/bin/python" -m pip --version >/dev/null 2>&1 && return 0
        echo "its pip does not run"
    else
        echo "${reason:-its Python does not run}"
    fi
    return 1
}

case "${1:-}" in
    find) if [ -n "${PYTHON:-}" ]; then use_named; else find_python; fi ;;
    offer) offer ;;
    install) if [ -n "${PYTHON:-}" ]; then use_named || [ $? = 3 ]; else install; fi ;;
    check) check "$2" ;;
    *) echo "python.sh: unknown command '${1:-}' (find, offer, install, check DIR)" >&2; exit 2 ;;
esac
