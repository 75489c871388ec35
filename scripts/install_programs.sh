#!/bin/sh
# Installs missing programs by apt, as root or with sudo: install_programs.sh PROGRAM...
# With --package, the arguments are names of apt packages. If apt cannot be used, it prints what to install and fails.
# With --update, it only updates apt's package lists, and fails if it cannot.
set -eu

package_of() {
    case "$1" in
        ffprobe) echo ffmpeg ;;
        supervisord) echo supervisor ;;
        systemd-analyze) echo systemd ;;
        cc) echo gcc libc6-dev ;;
        *) echo "$1" ;;
    esac
}

packages= update=
if [ "${1:-}" = --update ]; then
    update=1
elif [ "${1:-}" = --package ]; then
    shift
    packages="$*"
else
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || packages="$packages $(package_of "$program")"
    done
fi
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ' | sed 's/ *$//')
[ -n "$packages$update" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    $as_root true 2>/dev/null || as_root=none
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$as_root" = none ]; then
    [ -z "$update" ] || exit 1
    echo "Voicemill needs programs that are not installed: $packages" >&2
    echo "Install them and run this again, for example: sudo apt-get install $packages" >&2
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ -n "$update" ]; then
    $as_root apt-get update >"$log" 2>&1 && exit 0
    tail -n 5 "$log" >&2
    exit 1
fi
echo "Installing with apt-get: $packages"
export DEBIAN_FRONTEND=noninteractive # sudo may drop it; without a terminal packages do not ask anyway
if ! { $as_root apt-get install -y --no-install-recommends $packages ||
    { $as_root apt-get update && $as_root apt-get install -y --no-install-recommends $packages; }; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    echo "apt-get could not install: $packages" >&2
    exit 1
fi
