#!/bin/sh
# Installs programs that are missing, by apt, as root or through sudo: install_programs.sh PROGRAM...
# With --package, the arguments are names of apt's packages. Where apt cannot be used it says what to install, and fails.
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

packages=
if [ "${1:-}" = --package ]; then
    shift
    packages="$*"
else
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 || packages="$packages $(package_of "$program")"
    done
fi
packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ' | sed 's/ *$//')
[ -n "$packages" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    $as_root true 2>/dev/null || as_root=none
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$as_root" = none ]; then
    echo "Voicemill needs programs that are not installed: $packages" >&2
    echo "Install them and run this again, for example: sudo apt-get install $packages" >&2
    exit 1
fi

echo "Installing with apt-get: $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { $as_root apt-get install -y --no-install-recommends $packages ||
    { $as_root apt-get update && $as_root apt-get install -y --no-install-recommends $packages; }; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "apt-get could not install: $packages" >&2
    exit 1
fi
