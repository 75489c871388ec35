"""`pip install voicemill` in a project whose packages have the names of Voicemill's own."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from environments import PROJECTS, free_port

from voicemill import Client, __version__
from voicemill._cli import COMMANDS


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_client_and_nothing_else(wheel):
    found = names(wheel)

    assert {name.split("/")[0] for name in found} == {"voicemill", f"voicemill-{__version__}.dist-info"}
    assert {"voicemill/py.typed", "voicemill/store/lua/transition.lua"} <= found


def test_the_wheel_depends_on_dramatiq_and_redis_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"voicemill-{__version__}.dist-info/METADATA").decode()

    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert [line.split()[1].split("<")[0] for line in needed] == ["dramatiq", "redis"]


def test_the_source_distribution_builds_the_same_wheel(built, wheel, tmp_path):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()

    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=source, check=True, capture_output=True)

    assert names(tmp_path / wheel.name) == names(wheel)


@pytest.fixture
def project(tmp_path):
    """Copy a project, so that it is not in the clone."""

    def copy(name):
        return shutil.copytree(PROJECTS / name, tmp_path / name)

    return copy


def ask(address, data=None):
    try:
        with urlopen(Request(address, data), timeout=30) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def fastapi(with_frameworks, project, redis_url):
    port = free_port()
    command = ("-m", "uvicorn", "main:app", "--port", str(port))
    with with_frameworks.serve(*command, cwd=project("fastapi_project"), port=port, REDIS_URL=redis_url) as address:
        yield address


@pytest.fixture
def django(with_frameworks, project, redis_url):
    port = free_port()
    command = ("manage.py", "runserver", "--noreload", f"127.0.0.1:{port}")
    with with_frameworks.serve(*command, cwd=project("django_project"), port=port, REDIS_URL=redis_url) as address:
        yield address


def test_a_fastapi_project_with_a_config_and_actors_of_its_own_sends_a_job(fastapi, redis_url):
    status, sent = ask(f"{fastapi}/messages", b"OggS")

    assert (status, sent["status"]) == (200, "queued")
    expected = {"status": "queued", "language": "ko", "metadata": {"filename": "voice.ogg"}}
    assert ask(f"{fastapi}/messages/{sent['id']}") == (200, expected)
    assert ask(f"{fastapi}/messages/unknown")[0] == 404
    with Client(redis_url) as client:
        assert client.status().stages["decode"].depth.waiting == 1


def test_a_django_project_with_a_config_and_actors_of_its_own_sends_a_job(django, redis_url):
    status, sent = ask(f"{django}/messages?source=https://example.com/voice.ogg")

    assert (status, sent["status"]) == (200, "queued")
    expected = {"status": "queued", "language": "ko", "metadata": {"filename": "voice.ogg"}}
    assert ask(f"{django}/messages/{sent['id']}") == (200, expected)
    assert ask(f"{django}/messages/unknown")[0] == 404
    with Client(redis_url) as client:
        assert client.status().stages["decode"].depth.waiting == 1


@pytest.mark.parametrize("name", ["fastapi", "django"])
def test_the_projects_own_actors_stay_on_its_own_broker(name, request):
    address = request.getfixturevalue(name)

    queued = [ask(f"{address}/own")[1]["queued"] for _ in range(2)]

    assert queued[1] == queued[0] + 1


def check_types(environment, folder, *files):
    """Run mypy of the clone's environment on files, with what is installed in another one."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", environment.python]
    return subprocess.run([*command, *files], cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_consumer_passes_mypy_strict(client_alone, project):
    ran = check_types(client_alone, project("consumer"), "consumer.py")

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_consumers_mistakes_are_type_errors(client_alone, project):
    ran = check_types(client_alone, project("consumer"), "mistaken.py")

    lines = [line.split(":")[1] for line in ran.stdout.splitlines() if ": error:" in line]
    assert lines == ["6", "7", "8", "9"], ran.stdout + ran.stderr


def test_the_command_sends_and_reads_jobs_where_only_the_client_is_installed(client_alone, tmp_path, redis_url):
    def voicemill(*arguments):
        ran = client_alone.run("voicemill", *arguments, cwd=tmp_path, REDIS_URL=redis_url)
        assert "Traceback" not in ran.stderr
        return ran

    assert voicemill("--version").stdout == f"voicemill {__version__}\n"
    job_id = voicemill("submit", "https://example.com/voice.ogg", "--language", "ko").stdout.strip()
    assert json.loads(voicemill("result", job_id, "--format", "json").stdout)["options"]["language"] == "ko"
    assert job_id in voicemill("list").stdout
    assert "No live worker consumes the decode stage" in voicemill("status").stdout
    assert voicemill("dead", "list").stdout == "no dead letters\n"
    assert voicemill("cancel", job_id).returncode == 0
    assert voicemill("delete", job_id).returncode == 0
    assert voicemill("result", job_id).returncode == 4


def test_commands_that_need_a_clone_say_so_where_only_the_client_is_installed(client_alone, tmp_path):
    overview = client_alone.run("voicemill", "--help", cwd=tmp_path).stdout
    for name, command in COMMANDS.items():
        listed = re.search(rf"^ +{name}\b", overview, re.MULTILINE) is not None
        assert listed is not command.needs_clone, name
        if command.needs_clone:
            ran = client_alone.run("voicemill", name, cwd=tmp_path)
            assert (ran.returncode, ran.stdout) == (2, "")
            assert ran.stderr.startswith(f"voicemill {name} needs a clone of Voicemill or its image")
            assert ran.stderr.count("\n") == 1
