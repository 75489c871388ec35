"""The doctor from a clone with nothing installed, on every Python that there is here."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import slowness

CLONE = Path(__file__).parents[3]
PYTHONS = [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.[89].*/bin/python3"))]
PYTHONS += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.1[023].*/bin/python3"))]

# Runs the doctor and prints the name of every module that is neither the standard library's nor ours. The standard
# library itself tries `org`, for Jython.
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "pipeline", "config", "voicemill", "org"}:
            print("imported:", name, file=sys.stderr)
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
from pipeline.__main__ import main
sys.exit(main(["doctor", *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone without a virtual environment."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("pipeline", "config", "voicemill", "scripts"):
        shutil.copytree(CLONE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "requirements-cuda.txt"):
        shutil.copy(CLONE / name, folder)
    return folder


def doctor(clone, python, *arguments):
    command = ["env", "-i", python, "-S", "-m", "pipeline", "doctor", *arguments]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True)


@pytest.mark.parametrize("python", ["/usr/bin/python3", *PYTHONS])
def test_a_bare_machine_gets_a_whole_report_that_names_each_missing_package(clone, python):
    ran = doctor(
        clone, python, "--json", "--device", "cuda", "--only", "cuda", "--only", "packages", "--only", "python"
    )

    report = json.loads(ran.stdout)
    found = {each["code"]: each for check in report["checks"] for each in check["findings"]}
    assert ran.returncode == 1
    assert ran.stderr == ""
    assert "crash" not in {check["status"] for check in report["checks"]}
    assert {"package_missing", "build_missing"} <= set(found)
    missing = {
        e["message"].split()[0] for c in report["checks"] for e in c["findings"] if e["code"] == "package_missing"
    }
    assert {"ctranslate2", "faster-whisper", "dramatiq", "redis", "pydub"} <= missing
    assert "make -C" in found["package_missing"]["fix"] or "pip install -r" in found["package_missing"]["fix"]
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info < (3, 11))"], capture_output=True, text=True
    )
    assert ("python_too_old" in found) == (version.stdout.strip() == "True")


def test_the_doctor_imports_the_standard_library_alone_even_where_packages_are_installed(clone):
    command = [sys.executable, "-c", BLOCKED, "--json", "--device", "cuda"]

    ran = subprocess.run(command, cwd=clone, capture_output=True, text=True)

    assert ran.stderr == ""
    assert len(json.loads(ran.stdout)["checks"]) == 8


def test_the_clients_package_can_be_imported_where_nothing_is_installed(clone):
    program = "import voicemill, voicemill.address; print(voicemill.__version__, voicemill.address.from_environment())"

    for python in ["/usr/bin/python3", *PYTHONS]:
        ran = subprocess.run(["env", "-i", python, "-S", "-c", program], cwd=clone, capture_output=True, text=True)

        assert ran.stderr == ""
        assert "redis://127.0.0.1:6379/0" in ran.stdout


def test_the_report_has_all_eight_checks_in_their_order_as_documented(clone):
    report = json.loads(doctor(clone, "/usr/bin/python3", "--json", "--device", "cpu").stdout)

    assert [check["number"] for check in report["checks"]] == list(range(1, 9))
    assert [check["id"] for check in report["checks"]] == "gpu cuda cudnn ffmpeg python packages model redis".split()
    assert {"ok", "device"} <= set(report)
    assert all({"code", "message", "evidence", "fix"} <= set(each) for c in report["checks"] for each in c["findings"])


def test_the_check_script_asks_for_cuda_passes_arguments_through_and_returns_the_exit_code(clone):
    def script(*arguments):
        command = ["sh", clone / "scripts" / "check_runpod_environment.sh", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, cwd="/")

    ran = script("--json", "--only", "gpu")

    assert json.loads(ran.stdout)["device"] == "cuda"
    assert ran.returncode == 1
    assert script("--bogus").returncode == 2
    assert script("--device", "cpu", "--only", "gpu").returncode == 0


def test_the_set_up_script_plans_what_a_bare_machine_lacks_and_changes_nothing(clone):
    before = sorted(clone.rglob("*"))

    ran = subprocess.run(
        ["sh", clone / "scripts" / "setup_runpod_complete.sh", "--dry-run"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )

    assert ran.returncode == 0, ran.stderr
    assert "A virtual environment" in ran.stdout
    assert "pip install" in ran.stdout
    assert "cuBLAS 12.8" in ran.stdout
    assert sorted(clone.rglob("*")) == before


def test_an_env_file_full_of_garbage_is_passed_over(clone):
    (clone / ".env").write_bytes(b"REDIS_URL=redis://\0:1\n\xff\xfe\n" + bytes(range(256)))
    ran = doctor(clone, "/usr/bin/python3", "--json", "--only", "redis")
    (clone / ".env").write_text("REDIS_URL=redis://\0:1\nWHISPER_DEVICE=cpu\n")
    other = doctor(clone, "/usr/bin/python3", "--json", "--only", "redis")
    (clone / ".env").unlink()

    assert ran.stderr == other.stderr == ""
    assert json.loads(other.stdout)["device"] == "cpu"


def test_korean_is_spoken_where_the_environment_is_korean(clone):
    ran = subprocess.run(
        ["env", "-i", "LANG=ko_KR.UTF-8", "/usr/bin/python3", "-S", "-m", "pipeline", "doctor", "--only", "gpu"],
        cwd=clone,
        capture_output=True,
        text=True,
    )

    assert "NVIDIA 드라이버가 없습니다" in ran.stdout


def test_a_visit_takes_less_than_three_seconds():
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "pipeline", "doctor", "--json"], cwd=CLONE, capture_output=True)

    assert time.monotonic() - begun < 3 * 2 * slowness()  # two cores that the other tests share
