"""The command `web`: when it starts, when it does not, and what it prints."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from live import jobs

from config.environment import STATE
from web import auth

CLONE = STATE.parent
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def web(redis_url):
    """Run `web …` to its end."""

    def run(*arguments, **variables):
        return subprocess.run(
            [sys.executable, "-m", "pipeline", "web", *arguments],
            cwd=CLONE,
            env=os.environ | {"REDIS_URL": redis_url} | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_a_new_key_is_printed_with_its_entry(web):
    made = web("--new-key", "bot")
    lines = made.stdout.splitlines()

    assert made.returncode == 0
    assert auth.match(auth.parse(lines[3]), lines[1]) == auth.Caller("bot")
    assert web("--new-key", "no blanks").returncode == 2


def test_without_keys_it_listens_on_loopback_only(web):
    ran = web("--host", "0.0.0.0", "--port", "0")

    assert ran.returncode == 2
    assert "--new-key" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_an_address_that_is_in_use_or_invalid_is_reported_in_one_line_with_a_remedy(web):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = web("--port", port)

    assert ran.returncode == 1
    assert "HOST or PORT" in ran.stderr
    assert f"127.0.0.1, port {port}" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    _, entry = auth.generate("bot")
    ran = web("--host", "192.0.2.1", API_KEYS=entry)  # reserved for documentation
    assert (ran.returncode, len(ran.stderr.splitlines())) == (2, 1)
    ran = web("--port", "65536")
    assert ran.returncode == 2
    assert "from 0 to 65535" in ran.stderr


def test_malformed_keys_are_reported_without_being_shown(web):
    ran = web(API_KEYS="vm_a_key_in_the_clear")

    assert ran.returncode == 2
    assert "API_KEYS" in ran.stderr
    assert "vm_a_key" not in ran.stderr


def test_without_redis_it_does_not_start(web):
    assert web(REDIS_URL=NOBODY).returncode == 3


def test_it_logs_its_address_and_stops_in_order_while_a_client_listens(redis_url):
    from voicemill.options import Options

    jobs.create("waiting", "voice.ogg", Options())
    variables = {"REDIS_URL": redis_url, "LOG_FORMAT": "json", "SHUTDOWN_TIMEOUT": "60"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "web", "--port", "0"],
        cwd=CLONE,
        env=os.environ | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        started = next(line for line in process.stderr if "HTTP API started" in line)
        port = started.partition("127.0.0.1:")[2].partition('"')[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/jobs/waiting/events", timeout=60) as stream:
            assert stream.readline().startswith(b"id: ")
            process.send_signal(signal.SIGTERM)
            assert b"queued" in stream.read()  # to its end
        process.communicate(timeout=40)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_up_starts_the_http_api_beside_the_stages(redis_url):
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "up", "--stages", "enrich", "--web"],
        cwd=CLONE,
        env=os.environ | {"REDIS_URL": redis_url, "LOG_FORMAT": "json", "PORT": "0", "SHUTDOWN_TIMEOUT": "20"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        started = next(line for line in process.stdout if "HTTP API started" in line)
        port = started.partition("127.0.0.1:")[2].partition('"')[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=60) as status:
            assert b"unattended" in status.read()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
