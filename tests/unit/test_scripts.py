"""What `make` runs on a bare machine: it installs what is missing, or says what to install."""

import os
import re
import shutil
import subprocess
import sys
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
    assert "PYTHON=oldpython does not run; Voicemill needs Python 3.11, 3.12 or 3.13" in ran.stderr
    assert "python3.13-venv" in ran.stderr
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
    assert (bare / "calls").read_text().count("install") == 1  # pip, in the new one


@pytest.fixture
def machine(bare, tmp_path):
    """A root's machine whose apt has these packages, with `old` lists before an update; no Python is installed."""
    for name in ("mkdir", "cp", "cat", "chmod", "touch"):
        (bare / name).symlink_to(shutil.which(name))
    program(bare, "id", "echo 0")

    def made(*, old=None, **versions):
        for name, offered in (("lists", versions if old is None else old), ("updated", versions)):
            (bare / name).mkdir()
            for package, version in offered.items():
                text = f"{package}:\n  Installed: (none)\n  Candidate: {version}\n"
                (bare / name / package).write_text(text)
                (bare / name / f"{package}-venv").write_text(text)
        program(bare, "apt-cache", f'cat "{bare}/lists/$2" 2>/dev/null || exit 0')
        program(
            bare,
            "apt-get",
            f'echo "$*" >> {bare}/calls; [ "$1" = update ] && {{ cp {bare}/updated/* {bare}/lists/; exit; }}\n'
            f'for package; do case "$package" in *-venv) ;; python3*) cp {bare}/whole {bare}/$package ;; esac; done',
        )
        program(bare, "whole", f"{PYTHON_STUB}\n")
        return tmp_path / "venv"

    return made


# A final release that Voicemill supports, whose environments have another such stub, and pip.
PYTHON_STUB = """case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip install"*) echo "$0" >> "${0%/bin/python}/upgraded" ;;
    --version) echo "Python of ${0##*/}" ;;
esac"""
PRE_RELEASE_STUB = f"""case "$*" in "-c import ensurepip"*) ;; "-c "*version_info*3*) exit 3 ;; esac
{PYTHON_STUB}"""


def installed(bare):
    calls = (bare / "calls").read_text().splitlines() if (bare / "calls").exists() else []
    return [call.split("--no-install-recommends ")[-1] for call in calls]


@pytest.mark.parametrize(
    ("offered", "old", "packages"),
    [
        ({"python3": "3.13.5-1", "python3.13": "3.13.5-2"}, None, ["python3.13 python3.13-venv"]),
        ({"python3": "3.12.3-0ubuntu2", "python3.12": "3.12.3-1"}, None, ["python3.12 python3.12-venv"]),
        ({"python3": "3.11.2-1+b1", "python3.11": "3.11.2-6"}, None, ["python3.11 python3.11-venv"]),
        (
            {"python3": "3.10.6-1", "python3.10": "3.10.12-1", "python3.11": "3.11.9-1", "python3.12": "3.12.1-1"},
            None,
            ["python3.12 python3.12-venv"],
        ),
        (
            {"python3": "3.14.0-1", "python3.14": "3.14.0-1", "python3.13": "3.13.9-1"},
            None,
            ["python3.13 python3.13-venv"],
        ),
        (
            {"python3": "3.10.6-1", "python3.12": "3.12.0~rc2-1", "python3.11": "3.11.9-1~bpo12+1"},
            None,
            ["python3.11 python3.11-venv"],
        ),
        (
            {"python3": "3.10.6-1", "python3.11": "3.11.0~rc1-1~22.04"},
            None,
            ["update", "python3.11 python3.11-venv"],
        ),
        ({"python3": "3.13.5-1", "python3.13": "3.13.5-2"}, {}, ["update", "python3.13 python3.13-venv"]),
        (
            {"python3.12": "3.12.3-1"},
            {"python3.11": "3.11.0~rc1-1"},
            ["update", "python3.12 python3.12-venv"],
        ),
    ],
    ids="debian-13 ubuntu-24.04 debian-12 newest too-new final-first only-rc no-lists rc-in-old-lists".split(),
)
def test_the_newest_supported_python_that_apt_has_is_installed(bare, machine, offered, old, packages):
    venv = machine(old=old, **offered)

    ran = run("make_venv.sh", venv, path=bare, LANGUAGE="ko")

    assert ran.returncode == 0, ran.stderr
    assert installed(bare) == packages
    assert f"Python of {packages[-1].split()[0]}" in ran.stdout
    assert (venv / "upgraded").exists()


def test_where_apt_has_no_supported_python_the_message_says_what_to_do(bare, machine):
    venv = machine(**{"python3": "3.9.2-3", "python3.9": "3.9.2-1"})

    ran = run("make_venv.sh", venv, path=bare)

    assert ran.returncode == 1
    assert "Voicemill needs Python 3.11, 3.12 or 3.13; this machine has none, and apt offers none" in ran.stderr
    assert "PYTHON=/path/to/python" in ran.stderr
    assert not venv.exists()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [({"python3.12": "3.12.3-1"}, "python3.12"), ({}, "python3.11")],
    ids=["final-in-apt", "alone"],
)
def test_an_installed_pre_release_is_used_only_where_apt_has_nothing_better(bare, machine, offered, chosen):
    venv = machine(**offered)
    program(bare, "python3.11", PRE_RELEASE_STUB)

    ran = run("make_venv.sh", venv, path=bare)

    assert ran.returncode == 0, ran.stderr
    assert f"Python of {chosen}" in ran.stdout


def test_a_pre_release_whose_pip_cannot_be_upgraded_is_refused(bare, machine):
    venv = machine()
    program(bare, "python3.11", PRE_RELEASE_STUB.replace('echo "$0" >>', 'exit 1; echo "$0" >>'))

    ran = run("make_venv.sh", venv, path=bare)

    assert ran.returncode == 1
    assert "Python of python3.11 is a pre-release, which needs the pip of requirements-pip.txt" in ran.stderr
    assert not venv.exists()


def test_a_final_release_goes_on_with_the_pip_it_has(bare, machine):
    venv = machine()
    program(bare, "python3", PYTHON_STUB.replace('echo "$0" >>', 'exit 1; echo "$0" >>'))

    ran = run("make_venv.sh", venv, path=bare)

    assert ran.returncode == 0, ran.stderr
    assert "pip was not upgraded" in ran.stderr


def spoil(venv, how):
    python = venv / "bin" / "python"
    site = next(venv.glob("lib/python3*/site-packages"))
    if how == "unsupported":
        program(venv / "bin", "python", "[ \"$1\" = -m ] || { echo 'its Python is 3.10.12'; exit 1; }")
    elif how == "gone":
        python.unlink()
        python.symlink_to("/usr/bin/python3.2")
    elif how == "pip":
        shutil.rmtree(site / "pip" / "_internal")
    elif how == "no pip":
        shutil.rmtree(site / "pip")
    elif how == "not an environment":
        (venv / "pyvenv.cfg").unlink()
    elif how == "moved":
        pip = venv / "bin" / "pip"
        pip.write_text(f"#!{venv.parent}/elsewhere/.venv/bin/python\n" + pip.read_text().partition("\n")[2])
    elif how == "interrupted":
        (venv / ".unfinished").touch()
    elif how == "a file":
        shutil.rmtree(venv)
        venv.write_text("")


@pytest.fixture(scope="module")
def real_venv(tmp_path_factory):
    """A virtual environment that can be used; each test gets it back whole."""
    venv = tmp_path_factory.mktemp("real") / "venv"
    subprocess.run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", venv], check=True)
    return venv


@pytest.fixture
def fine(real_venv, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(real_venv, kept, symlinks=True)
    (real_venv / ".stages").touch()
    yield real_venv
    real_venv.unlink() if real_venv.is_file() else shutil.rmtree(real_venv)
    kept.rename(real_venv)


def test_an_environment_that_can_be_used_is_not_touched(fine, bare, tmp_path):
    link = tmp_path / "linked"
    link.symlink_to(fine)
    before = {path: path.lstat().st_mtime_ns for path in fine.rglob("*") if "__pycache__" not in path.parts}

    for venv in (fine, link):
        ran = run("make_venv.sh", venv, path=bare)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    made = subprocess.run(
        ["make", "--dry-run", f"VENV={fine}", "install"], cwd=SCRIPTS.parent, capture_output=True, text=True
    )

    after = {path: path.lstat().st_mtime_ns for path in fine.rglob("*") if "__pycache__" not in path.parts}
    assert after == before
    assert "pip install" not in made.stdout


@pytest.mark.parametrize(
    "how", ["unsupported", "gone", "pip", "no pip", "not an environment", "moved", "interrupted", "a file"]
)
def test_an_environment_that_cannot_be_used_is_replaced_with_all_that_was_in_it(fine, bare, how):
    (bare / "mkdir").symlink_to(shutil.which("mkdir"))
    program(bare, "python3", PYTHON_STUB)
    (bare / "cp").symlink_to(shutil.which("cp"))
    spoil(fine, how)

    made = subprocess.run(
        ["make", "--dry-run", f"VENV={fine}", "install"], cwd=SCRIPTS.parent, capture_output=True, text=True
    )
    ran = run("make_venv.sh", fine, path=bare)

    assert "pip install --quiet --disable-pip-version-check -r requirements.txt" in made.stdout, made.stderr
    assert ran.returncode == 0, ran.stderr
    assert f"Replacing {fine}: " in ran.stdout
    assert not (fine / ".stages").exists()


def test_a_python_and_an_environment_in_folders_with_blanks_are_taken_as_named(bare, tmp_path):
    venv, folder = tmp_path / "my clone" / ".venv", tmp_path / "my python"
    for path in (venv, folder, tmp_path / "my"):
        path.mkdir(parents=True)
    (venv / "old").touch()
    for name in ("mkdir", "cp"):
        (bare / name).symlink_to(shutil.which(name))
    program(folder, "python3", '[ "$2" = venv ] || exit 0; mkdir "$3/bin"; cp "$0" "$3/bin/python"')

    ran = run("make_venv.sh", venv, path=bare, PYTHON=str(folder / "python3"))

    assert ran.returncode == 0, ran.stderr
    assert (venv / "bin" / "python").exists()
    assert not (venv / "old").exists()
    assert (tmp_path / "my").exists()


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
    assert ("without Chromium or Chrome the tests of the dashboard are skipped" in ran.stdout) == said
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
