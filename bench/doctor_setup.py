"""Does the set-up really set up, also after it was killed, cut off from the network, out of disk, or begun twice?

Run: .venv/bin/python bench/doctor_setup.py [--apt]. In a throw-away clone outside the tree, with a stub of NVIDIA's
driver, it installs everything for real: 1 GB from the package index, 3 GB of TMPDIR while it lasts, two minutes.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CLONE))
sys.path.insert(0, str(CLONE / "tests"))

from processes import alive, children, end  # noqa: E402 - the tests are not installed

from cli.embedded import valkey  # noqa: E402 - the repository is not installed

# What stays wrong on a machine with a stub for a driver: nothing can run on a GPU that is none.
OF_THE_STUB = {"canary_failed", "canary_killed"}


class Drill:
    """A clone, its environment, and what was promised of it and seen."""

    def __init__(self, folder, redis_url):
        self.clone = folder / "clone"
        subprocess.run(["git", "clone", "-q", CLONE, self.clone], check=True)
        driver = folder / "lib" / "libcuda.so.1"
        driver.parent.mkdir()
        source = CLONE / "tests" / "faults" / "library.c"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-DDRIVER", f"-Wl,-soname,{driver.name}", "-o", driver, source, "-ldl"],
            check=True,
        )
        self.variables = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.variables |= {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "PYTHON": getattr(sys, "_base_executable", sys.executable),
            "HOME": str(folder),
            "LD_LIBRARY_PATH": str(driver.parent),
            "FAKE_DRIVER": "12080",
            "REDIS_URL": redis_url,
            "WHISPER_MODEL": "bundled:base",
            "WHISPER_MODEL_DIR": str(folder / "models"),
        }
        self.missed = []

    def begin(self, *arguments, **variables):
        """Start the set-up in a group of its own, without a terminal."""
        return subprocess.Popen(
            ["sh", "scripts/setup_runpod_complete.sh", *arguments],
            cwd=self.clone,
            env=self.variables | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments, **variables):
        """Run the set-up to its end; return its exit code and what it said."""
        begun = time.monotonic()
        process = self.begin(*arguments, **variables)
        out, _ = process.communicate()
        self.seconds = time.monotonic() - begun
        return process.returncode, out

    def cut(self, line, seconds, number):
        """Send a signal to the whole group some seconds after it said a line; return its exit code and who is left."""
        process = self.begin("--yes")
        for said in process.stdout:
            if line in said:
                break
        time.sleep(seconds)
        family = [process.pid, *children(process.pid)]
        os.killpg(process.pid, number)
        process.stdout.read()
        code = process.wait()
        return code, [] if end(family) else alive(family)

    def files(self):
        """Return the clone's files with the times of their last change."""
        kept = [path for path in self.clone.rglob("*") if path.is_file() and ".git" not in path.parts]
        return {str(path): path.stat().st_mtime_ns for path in kept}

    def doctor(self):
        """Return the doctor's exit code and the codes of what fails."""
        command = ["sh", "scripts/check_runpod_environment.sh", "--json"]
        ran = subprocess.run(command, cwd=self.clone, env=self.variables, capture_output=True, text=True)
        found = [each for check in json.loads(ran.stdout)["checks"] for each in check["findings"]]
        return ran.returncode, {each["code"] for each in found if each["status"] in ("fail", "crash")}

    def expect(self, promise, kept, seen=""):
        """Say whether a promise was kept."""
        print(f"{'ok  ' if kept else 'MISS'}  {promise}", flush=True)
        if not kept:
            self.missed.append(promise)
            print(seen, flush=True)


def drill(folder, redis_url, *, apt):
    it = Drill(folder, redis_url)
    before = it.files()
    code, out = it.run("--dry-run")
    it.expect("--dry-run prints the plan and changes nothing", code == 0 and "[1]" in out and it.files() == before, out)
    code, out = it.run()
    it.expect(
        "without a terminal and --yes nothing is installed", code == 1 and it.files().keys() == before.keys(), out
    )

    code, left = it.cut("A virtual environment", 0.5, signal.SIGKILL)
    it.expect("killed while it made the virtual environment", code == -signal.SIGKILL and not left, (code, left))
    refused = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    code, out = it.run("--yes", **refused, PIP_FIND_LINKS="", PIP_EXTRA_INDEX_URL="")
    it.expect("without a network it names the step that failed", code == 1 and "Step 2 failed" in out, out)
    for number, seconds in ((signal.SIGKILL, 6), (signal.SIGKILL, 14), (signal.SIGINT, 4)):
        code, left = it.cut("The Python packages", seconds, number)
        promise = f"{number.name} {seconds} s into the packages leaves no process"
        it.expect(promise, code in (-number, 128 + number) and not left, (code, left))
    with full_disk(it.clone) as full:
        code, out = it.run("--yes")
        if full:
            it.expect(
                "a full disk is named, and the step", code == 1 and "No space left" in out and "failed" in out, out
            )
    code, left = it.cut("cuBLAS", 4, signal.SIGKILL)
    it.expect("killed while it unpacked cuBLAS", code == -signal.SIGKILL and not left, (code, left))
    if apt:
        code, out = it.run("--yes", "--apt")
        it.expect("--apt says whose repository is wanted", code == 1 and "NVIDIA's apt repository" in out, out)

    begun = time.monotonic()
    both = [it.begin("--yes") for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    seconds = time.monotonic() - begun
    waited = [text for text in said if "waiting for its end" in text]
    installed = [text for text in said if "by pip" in text]
    it.expect("of two at once one waits, and one installs", len(waited) == len(installed) == 1, said)
    print(f"      what was left to do took {seconds:.0f} s")
    ended, failing = it.doctor()
    it.expect("both end with the doctor's code", {process.returncode for process in both} == {ended}, said)
    it.expect("the doctor misses nothing but a real GPU", failing <= OF_THE_STUB, failing)
    it.expect("the model is in WHISPER_MODEL_DIR", (folder / "models" / "base" / "model.bin").is_file())
    begun = time.monotonic()
    code, out = it.run("--yes")
    it.expect("a second run has nothing to do", "Nothing is missing" in out and code == ended, out)
    print(f"      and took {time.monotonic() - begun:.1f} s")
    code, out = it.run("--yes", WHISPER_MODEL="small", HF_ENDPOINT="http://127.0.0.1:1")
    it.expect(
        "a hub out of reach is a line, not a traceback",
        code == 1 and "the hub 127.0.0.1" in out and "Traceback" not in out,
        out,
    )
    return it.missed


@contextlib.contextmanager
def full_disk(clone):
    """Give cuBLAS a disk that is too small for it; False: this user may not mount any."""
    place = next(clone.glob(".venv/lib/python3*/site-packages")) / "nvidia"
    place.mkdir(exist_ok=True)
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", place], capture_output=True).returncode == 0
    )
    if not mounted:
        print("left out: a full disk (mount is not permitted)")
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", place], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apt", action="store_true", help="also try --apt, which asks the system's package archives")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder) / "redis", durable=True) as url:
        missed = drill(Path(folder), url, apt=arguments.apt)
    print(f"verdict: {f'{len(missed)} promises missed' if missed else 'set-up holds every promise'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
