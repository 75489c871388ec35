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
    (folder / name).unlink(missing_ok=True)  # else the text goes through a link into the machine's own program
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_what_measures_on_the_speech_of_the_benchmarks_installs_it_first():
    rules = re.findall(r"^([\w-]+):(.*)\n((?:\t.*\n)+)", (SCRIPTS.parent / "Makefile").read_text(), re.MULTILINE)
    bench = SCRIPTS.parent / "bench"
    hungry = {file.name for file in bench.glob("*.py") if re.search(r"\bimport prompts\b", file.read_text())}
    ran = {name: set(re.findall(r"bench/(\w+\.py)", recipe)) for name, _, recipe in rules}

    assert hungry
    assert [name for name, wants, _ in rules if ran[name] & hungry and ".speech" not in wants] == []


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


def test_half_an_environment_is_made_again_and_a_whole_one_is_left_alone(bare, tmp_path):
    venv = tmp_path / "venv"
    program(bare, "python3", f'[ "$2" = venv ] || exit 0; mkdir -p {venv}/bin; cp {bare}/whole {venv}/bin/python')
    program(bare, "whole", f'echo "$*" >> {bare}/calls')
    for name in ("mkdir", "cp"):
        (bare / name).symlink_to(shutil.which(name))
    (venv / "bin").mkdir(parents=True)
    program(venv / "bin", "python", "exit 1")

    made, again = (run("make_venv.sh", venv, path=bare) for _ in range(2))

    assert (made.returncode, "Making" in made.stdout) == (0, True)
    assert (again.returncode, again.stdout) == (0, "")
    assert (bare / "calls").read_text() == "-m pip --version\n"


def test_a_python_and_an_environment_in_folders_with_blanks_are_taken_as_named(bare, tmp_path):
    venv, folder = tmp_path / "my clone" / ".venv", tmp_path / "my python"
    for path in (venv, folder, tmp_path / "my"):
        path.mkdir(parents=True)
    program(folder, "python3", f'[ "$2" = venv ] && echo "$3" > {bare}/made; exit 0')

    ran = run("make_venv.sh", venv, path=bare, PYTHON=str(folder / "python3"))

    assert ran.returncode == 0, ran.stderr
    assert (bare / "made").read_text() == f"{venv}\n"
    assert (tmp_path / "my").exists()
    assert not venv.exists()


@pytest.mark.parametrize("target", ["clean", "install"])
def test_make_refuses_an_environment_whose_path_holds_blanks(tmp_path, target):
    command = ["make", "--dry-run", f"VENV={tmp_path}/my venv", target]
    ran = subprocess.run(command, cwd=SCRIPTS.parent, capture_output=True, text=True)

    assert ran.returncode == 2
    assert "rm -rf" not in ran.stdout
    assert "VENV has to be one path without blanks" in ran.stderr


@pytest.mark.parametrize("variable", ["PYTHON", "AUDIO"])
def test_what_make_is_given_never_becomes_part_of_a_command(bare, tmp_path, variable):
    value = 'my "voice" `touch pwned`; touch pwned \'o'
    venv, clone = tmp_path / "venv", tmp_path / "clone"
    (venv / "bin").mkdir(parents=True)
    clone.mkdir()
    shutil.copytree(SCRIPTS, clone / "scripts")
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(SCRIPTS.parent / name, clone)
    program(venv / "bin", "python", f'[ "$3" != demo ] || printf %s "$4" > {bare}/given')
    for name in ("ffmpeg", "ffprobe"):
        program(bare, name, "exit 0")
    for name in ("make", "touch", "awk"):
        (bare / name).symlink_to(shutil.which(name))

    command = ["make", f"VENV={venv}", f"{variable}={value}", "demo"]
    ran = subprocess.run(command, cwd=clone, env={"PATH": str(bare)}, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr
    assert not (clone / "pwned").exists()
    assert (bare / "given").read_text() == (value if variable == "AUDIO" else "")


def test_an_environment_that_could_not_be_made_leaves_nothing_behind(bare, tmp_path):
    venv = tmp_path / "venv"
    program(bare, "python3", f'[ "$2" = venv ] || exit 0; mkdir -p {venv}/bin; exit 1')
    (bare / "mkdir").symlink_to(shutil.which("mkdir"))

    ran = run("make_venv.sh", venv, path=bare)

    assert ran.returncode == 1
    assert not venv.exists()


def test_an_environment_whose_python_is_gone_is_made_again_with_all_that_was_in_it(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/usr/bin/python3.2")
    (tmp_path / ".stages").touch()

    ran = subprocess.run(
        ["make", "--dry-run", f"VENV={tmp_path}", "install"], cwd=SCRIPTS.parent, capture_output=True, text=True
    )

    assert f"make_venv.sh {tmp_path}" in ran.stdout, ran.stderr
    assert "pip install --quiet --disable-pip-version-check -r requirements.txt" in ran.stdout


@pytest.mark.parametrize(
    ("apt", "ci", "code", "said"),
    [
        ("exit 0", "", 0, False),
        ('! expr "$*" : .*chromium', "", 0, True),
        ('! expr "$*" : .*chromium', "true", 2, True),
    ],
    ids=["debian", "ubuntu", "ubuntu-in-ci"],
)
def test_a_browser_that_apt_does_not_have_keeps_nothing_else_from_being_installed(bare, tmp_path, apt, ci, code, said):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    program(venv / "bin", "python", '[ "$1" != tests/browsers.py ]')
    program(bare, "id", "echo 0")
    program(bare, "apt-get", f'echo "$*" >> {bare}/calls; {apt}')
    for name in ("make", "expr", "touch"):
        (bare / name).symlink_to(shutil.which(name))

    ran = subprocess.run(
        ["make", f"VENV={venv}", venv / ".dev"],
        cwd=SCRIPTS.parent,
        env={"PATH": str(bare), "CI": ci},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == code, ran.stderr
    assert ("without Chromium or Chrome the tests of the live page are left out" in ran.stdout) == said
    first, *_ = (bare / "calls").read_text().splitlines()
    assert "ffmpeg" in first
    assert "chromium" not in first
    assert (venv / ".dev").exists() == (code == 0)


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
