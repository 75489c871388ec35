"""What `make` runs on a bare machine: it installs what is missing, or says what to install."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
NEEDED = ("sh", "id", "sort", "tr", "sed", "printf", "mktemp", "rm", "tail", "dirname")


@pytest.fixture
def bare(tmp_path):
    """A PATH with a shell's tools and nothing else."""
    for name in NEEDED:
        if found := shutil.which(name):
            (tmp_path / name).symlink_to(found)
    return tmp_path


def run(script, *arguments, path, **variables):
    return subprocess.run(
        ["/bin/sh", SCRIPTS / script, *map(str, arguments)],
        env={"PATH": str(path)} | variables,
        capture_output=True,
        text=True,
    )


def program(folder, name, text):
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_programs_that_are_there_are_left_alone_without_a_word(bare):
    program(bare, "ffmpeg", "exit 0")
    program(bare, "ffprobe", "exit 0")

    ran = run("install_programs.sh", "ffmpeg", "ffprobe", path=bare)

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_where_apt_cannot_be_used_it_says_what_to_install(bare):
    ran = run("install_programs.sh", "ffmpeg", "ffprobe", "espeak-ng", path=bare)

    assert ran.returncode == 1
    assert "sudo apt-get install espeak-ng ffmpeg" in ran.stderr


@pytest.mark.parametrize("root", [True, False], ids=["root", "sudo"])
def test_it_installs_by_apt_as_root_or_through_sudo_and_updates_the_lists_only_when_it_must(bare, root):
    program(bare, "id", f"echo {0 if root else 1000}")
    program(bare, "sudo", 'shift; exec "$@"')
    (bare / "true").symlink_to("/bin/true")
    program(bare, "apt-get", f'echo "$*" >> {bare}/calls; [ "$1" = update ] && touch {bare}/lists; [ -e {bare}/lists ]')
    (bare / "touch").symlink_to(shutil.which("touch"))

    ran = run("install_programs.sh", "ffprobe", path=bare)

    assert ran.returncode == 0, ran.stderr
    install = "install -y --no-install-recommends ffmpeg"
    assert (bare / "calls").read_text().splitlines() == [install, "update", install]


def test_without_a_supported_python_it_says_which_one_to_install(bare, tmp_path):
    program(bare, "oldpython", "exit 1")

    ran = run("make_venv.sh", tmp_path / "venv", path=bare, PYTHON="oldpython")

    assert ran.returncode == 1
    assert "Python 3.11, 3.12 or 3.13" in ran.stderr
    assert "python3.11-venv" in ran.stderr
    assert not (tmp_path / "venv").exists()


def test_scripts_run_in_a_plain_shell():
    for script in SCRIPTS.glob("*.sh"):
        shell = script.read_text().splitlines()[0].removeprefix("#!").split()[-1]
        shell = "bash" if shell.endswith("bash") else "sh"
        assert subprocess.run([shell, "-n", script], env=dict(os.environ)).returncode == 0, script.name


@pytest.mark.parametrize("file", sorted(SCRIPTS.parent.glob("requirements*.txt")), ids=lambda file: file.name)
def test_what_is_pinned_with_extras_is_pinned_without_them_too(file):
    pins = {
        line.removesuffix("\\").strip() for line in file.read_text().splitlines() if re.match(r"[\w.-]+(\[|==)", line)
    }

    assert {re.sub(r"\[.*?\]", "", pin) for pin in pins} <= pins


def test_a_pin_with_extras_is_repeated_with_its_hashes():
    hashes = "    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
    other = "other==1 \\\n    --hash=sha256:cc\n"

    ran = subprocess.run(
        ["awk", "-f", SCRIPTS / "pin_extras.awk"],
        input=f"auth[requests]==2.1 \\\n{hashes}    # via api\n{other}",
        capture_output=True,
        text=True,
    )

    assert ran.stdout == f"auth[requests]==2.1 \\\n{hashes}auth==2.1 \\\n{hashes}    # via api\n{other}"
