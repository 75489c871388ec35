"""Redis behind TLS and a password, as hosted ones are."""

import os
import subprocess
import sys
from pathlib import Path

import live
import pytest
import redis
from live import jobs, store
from tls_redis import authority, tls_redis

from cli.supervisor import Supervisor, procfile
from config.environment import STATE
from voicemill import decode

CLONE = STATE.parent
PASSWORD = "a secret of this test"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The variables by which a worker reaches a Redis with TLS and a password."""
    folder = tmp_path_factory.mktemp("tls")
    authority(folder, "another")
    with tls_redis(folder, PASSWORD) as variables:
        yield variables


def test_a_message_goes_through_all_stages_over_tls_with_a_password(server, tmp_path, monkeypatch):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "voice.ogg").write_bytes((CLONE / "samples" / "voice-message.ogg").read_bytes())
    variables = {"MEDIA_ROOT": str(tmp_path), "WHISPER_MODEL": "bundled:tiny.en", "WHISPER_DEVICE": "cpu"}
    lines = []
    variables |= {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "", "WHISPER_CPU_REPLICAS": "1", "LOG_FORMAT": "json"}
    stages = Supervisor(procfile(), dict(os.environ) | variables, lambda _, line: lines.append(line), 10)
    stages.start()
    try:
        job = jobs.wait(decode.send("voice.ogg", language="en").message_id, timeout=60)
    finally:
        stages.stop()
        live.close()

    assert job.status == "done", (job.error, lines)
    assert job.transcript.text
    assert not [line for line in lines if PASSWORD in line]


def beside(server, variables):
    """The server's variables, some of them wrong, with the file that is named taken for one in the server's folder."""
    if name := variables.get("REDIS_CA_CERTS"):
        variables = {"REDIS_CA_CERTS": str(Path(server["REDIS_CA_CERTS"]).with_name(name))}
    return server | variables


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"REDIS_PASSWORD": "guessed"}, "rejects the login: "),
        ({"REDIS_PASSWORD": ""}, "rejects the login: "),
        ({"REDIS_CA_CERTS": "another.crt"}, "has a certificate that is not trusted: "),
        ({"REDIS_CA_CERTS": "nowhere.crt"}, "cannot be trusted: REDIS_CA_CERTS names "),
        ({"REDIS_CA_CERTS": "names"}, "cannot be trusted: REDIS_CA_CERTS names "),
    ],
    ids=["wrong password", "no password", "wrong authority", "no file of it", "a file of something else"],
)
def test_a_rejected_login_or_certificate_is_told_apart_from_an_outage(server, monkeypatch, wrong, said):
    for name, value in beside(server, wrong).items():
        monkeypatch.setenv(name, value)

    with store.connect(socket_timeout=5, retries=0) as client, pytest.raises(redis.RedisError) as raised:
        client.ping()

    assert store.refusal(raised.value).startswith(said)


@pytest.mark.parametrize(
    "command", ["dramatiq actors.decode -p 1 --skip-logging", "python -m pipeline submit voice.ogg"]
)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"REDIS_PASSWORD": "guessed"}, "rejects the login: "),
        ({"REDIS_CA_CERTS": "nowhere.crt"}, "nowhere.crt: No such file or directory"),
    ],
    ids=["wrong password", "no file of the authority"],
)
def test_a_rejected_login_or_certificate_is_one_line_and_exit_code_3(server, command, wrong, said):
    program, *arguments = command.split()

    ran = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=CLONE,
        env=os.environ | beside(server, wrong),
        capture_output=True,
        text=True,
        timeout=30,
    )

    told = [line for line in (ran.stdout + ran.stderr).splitlines() if "Redis" in line]
    assert ran.returncode == 3
    assert len(told) == 1
    assert f"Redis at {server['REDIS_URL']} " in told[0]
    assert said in told[0]
    assert "Traceback" not in ran.stderr
    assert PASSWORD not in ran.stderr


def test_a_client_with_a_wrong_password_gets_an_authentication_error(server, monkeypatch):
    for name, value in (server | {"REDIS_PASSWORD": "guessed"}).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(redis.AuthenticationError):
        jobs.get("j")
    live.close()
