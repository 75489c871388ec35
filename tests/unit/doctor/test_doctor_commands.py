"""Commands in fixes: a shell takes any path or setting for one word, whatever it contains."""

import os
import re
import shlex
import subprocess

import pytest

from pipeline.doctor import child, libraries, shell
from pipeline.doctor.checks import cuda, model, python, redis
from pipeline.doctor.findings import CODES, LANGUAGES, PREPARED, finding
from pipeline.doctor.machine import Machine
from pipeline.doctor.target import Target
from voicemill.address import Address

HOSTILE = """-rf /x/o'brien "my" clone; $(touch pwned) `id` && ~/* {command} {path}\n한글\\"""
BROKEN = child.ProcessResult(127, "", "No such file", 0.0)


def made(code, value):
    """Fill in every value of a finding; those that are commands hold it as one of their words."""
    names = {name for text in (*CODES[code].message, *CODES[code].fix) for name in re.findall(r"{(\w+)}", text)}
    return finding(code, **{name: shell.command("rm", value) if name in PREPARED else value for name in names})


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_a_shell_takes_any_value_of_a_remedy_for_one_word(code, language):
    plain = shlex.split(made(code, "plain").fix(language))

    assert shlex.split(made(code, HOSTILE).fix(language)) == [word.replace("plain", HOSTILE) for word in plain]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_an_ordinary_path_in_a_remedy_and_any_in_a_message_are_shown_as_they_are(code, language):
    kind, spoken = CODES[code], LANGUAGES.index(language)
    values = dict.fromkeys(re.findall(r"{(\w+)}", kind.fix[spoken] + kind.message[spoken]), "/usr/lib/python3.11")
    hostile = dict.fromkeys(values, "my 'clone'")

    assert finding(code, **values).fix(language) == re.sub(r"{\w+}", "/usr/lib/python3.11", kind.fix[spoken])
    assert finding(code, **hostile).message(language) == re.sub(r"{\w+}", "my 'clone'", kind.message[spoken])


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Return the folder of a clone with a blank in its path, beside folders that the parts of the path name."""
    root = tmp_path / "my clone" / "vm"
    root.mkdir(parents=True)
    for folder in (tmp_path / "my", tmp_path / "clone" / "vm"):
        folder.mkdir(parents=True)
        (folder / "kept").touch()
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture
def program(tmp_path):
    """Make an empty program in a folder of its own."""

    def make(name):
        path = tmp_path / "bin" / name
        path.parent.mkdir()
        path.touch(mode=0o755)
        return path

    return make


def strangers(clone):
    return [folder / "kept" for folder in (clone.parents[1] / "my", clone.parents[1] / "clone" / "vm")]


def pasted(command):
    subprocess.run(["sh", "-c", command], check=True)


def test_the_remedy_for_a_broken_python_removes_the_clones_environment_alone(clone):
    (clone / ".venv" / "bin").mkdir(parents=True)
    machine = Machine("cpu", None, Target(str(clone / ".venv" / "bin" / "python"), BROKEN), {}, root=str(clone))
    found = {each.code: each for each in python.examine(machine)}

    pasted(found["python_broken"].fix().partition(" && ")[0])

    assert not (clone / ".venv").exists()
    assert clone.exists()
    assert all(file.exists() for file in strangers(clone))


@pytest.mark.parametrize("name", ["bundled:base", "small"])
def test_the_remedy_for_a_broken_model_removes_that_model_alone(clone, name):
    folder = clone / "models"
    broken = folder / ("base" if name == "bundled:base" else "models--Systran--faster-whisper-small")
    files = broken if name == "bundled:base" else broken / "snapshots" / "0123"
    files.mkdir(parents=True)
    (files / "model.bin").touch()
    (folder / "kept").touch()
    packages = clone / "site-packages"
    for package, path in model.BUNDLED["bundled:base"]:
        (packages / package / "data").mkdir(parents=True)
        (packages / package / path).touch()
    os.truncate(packages / package / path, model.BASE_SIZE)  # sparse; the sum of both parts counts
    variables = {"WHISPER_MODEL": name, "WHISPER_MODEL_DIR": str(folder)}
    found = model.examine(
        Machine("cpu", None, Target("python3", BROKEN, paths=(str(packages),)), variables, root=str(clone))
    )

    pasted(next(each for each in found if each.code == "model_empty").fix().partition(" && ")[0])

    assert not broken.exists()
    assert all(file.exists() for file in [folder / "kept", *strangers(clone)])


def test_the_remedy_for_a_damaged_library_removes_that_file_alone(clone, monkeypatch):
    monkeypatch.chdir(clone)
    damaged = clone / "-rf lib" / "libcublas.so.12"
    damaged.parent.mkdir()
    damaged.touch()
    chosen = libraries.Candidate("/usr/lib/libcublas.so.12", "system")
    relative = libraries.Candidate("-rf lib/libcublas.so.12", "LD_LIBRARY_PATH", "empty")
    library = libraries.LibrarySearch("libcublas.so.12", (relative, chosen))
    (found,) = cuda.check_files(Machine("cuda", None, Target("python3", None), {}), library, "library")

    monkeypatch.chdir("/")
    pasted(found.fix())

    assert damaged.parent.exists()
    assert not damaged.exists()


def test_a_model_named_by_a_pattern_is_not_looked_for_by_it(tmp_path):
    other = tmp_path / "models--owner--other" / "snapshots" / "0123"
    other.mkdir(parents=True)
    (other / "model.bin").touch()
    variables = {"WHISPER_MODEL": "owner/*", "WHISPER_MODEL_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    found = model.examine(Machine("cpu", None, Target("python3", BROKEN), variables))

    assert "model_empty" not in {each.code for each in found}


def test_a_model_folder_that_begins_with_a_hyphen_is_no_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "-rf my model"
    folder.mkdir()
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).write_text("{}")
    monkeypatch.setattr(os, "access", lambda *_: False)

    found = model.examine(Machine("cpu", None, Target("python3", BROKEN), {"WHISPER_MODEL": folder.name}))

    words = [shlex.split(each.fix()) for each in found if each.fix()]
    assert ["git", "-C", str(folder), "lfs", "pull"] in words
    assert ["chmod", "-R", "a+rX", str(folder)] in words


@pytest.mark.parametrize("make", [True, False])
@pytest.mark.parametrize("managed", [True, False])
def test_every_command_names_the_clone_and_the_python_by_one_word_each(clone, program, monkeypatch, make, managed):
    monkeypatch.setenv("PATH", str(program("make").parent) if make else str(clone / "nothing"))
    interpreter = str(clone / "my venv" / "python")
    machine = Machine("cpu", None, Target(interpreter, None, version=(3, 12), managed=managed), {}, root=str(clone))
    commands = [
        machine.install,
        machine.requirements(),
        machine.pip("a>=1,<2"),
        machine.pinned("a"),
        machine.pipeline("doctor"),
        *[each.fix() for each in python.examine(machine)],
    ]

    for command in commands:
        words = shlex.split(command)
        cut = [word for word in words if str(clone.parents[1]) in word and str(clone) not in word]
        assert not cut, command
        assert any(str(clone) in word for word in words), command


def test_a_redis_at_a_socket_is_named_by_one_word():
    socket = "/x/o'brien my;clone/redis.sock"
    variables = {"REDIS_URL": f"unix://{socket.replace(' ', '%20')}"}

    (found,) = redis.examine(Machine("cpu", None, Target("python3", None), variables))

    assert found.code == "redis_down"
    for language in LANGUAGES:
        assert [word for word in shlex.split(found.fix(language)) if word.startswith(socket)]
    assert shlex.split(redis.client_command(Address(variables["REDIS_URL"]))) == ["redis-cli", "-s", socket]


def test_the_python_that_starts_a_redis_is_named_by_one_word():
    machine = Machine("cpu", None, Target("/x/my clone/python", None), {"REDIS_URL": "redis://127.0.0.1:1/0"})

    (found,) = redis.examine(machine)

    assert all(shlex.split(found.fix(language))[0] == "/x/my clone/python" for language in LANGUAGES)
