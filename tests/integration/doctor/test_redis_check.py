"""Check 8 against real servers in every state of disrepair."""

import contextlib
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import redis

from pipeline.commands.embedded import valkey
from pipeline.doctor import examination


def codes(url, monkeypatch, **variables):
    monkeypatch.setenv("REDIS_URL", url)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    report = examination.diagnose("backend", "cpu", interpreter=sys.executable, only=["redis"])
    check = report.check("redis")
    return check.status, {found.code: found for found in check.findings}


@pytest.fixture
def server(tmp_path):
    """A Valkey of the test's own, which writes to disk, and a client of it."""
    with valkey(tmp_path, durable=True) as url:
        client = redis.Redis.from_url(url)
        yield url, client
        client.close()


@contextlib.contextmanager
def listener(answer):
    """A server that does `answer` with its connections."""
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    answer(sock.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        yield sock.getsockname()[1]


def test_a_healthy_server_passes(server, monkeypatch):
    status, found = codes(server[0], monkeypatch)

    assert (status, list(found)) == ("pass", ["redis_fit"])


def test_eviction_is_a_failure_and_says_how_to_end_it(server, monkeypatch):
    server[1].config_set("maxmemory-policy", "allkeys-lru")

    status, found = codes(server[0], monkeypatch)

    assert status == "fail"
    assert "noeviction" in found["redis_evicts"].fix()


def test_no_persistence_is_a_warning(valkey_url, monkeypatch):
    status, found = codes(valkey_url, monkeypatch)

    assert status == "warn"
    assert "redis_not_persistent" in found


def test_a_password_is_asked_for_taken_and_refused(server, monkeypatch):
    server[1].config_set("requirepass", "secret")
    place = server[0].split("://")[1]

    assert "redis_login_refused" in codes(server[0], monkeypatch)[1]
    assert "redis_login_refused" in codes(f"redis://:wrong@{place}", monkeypatch)[1]
    assert "redis_fit" in codes(f"redis://:secret@{place}", monkeypatch)[1]
    _status, found = codes(server[0], monkeypatch, REDIS_PASSWORD="secret")
    assert "redis_fit" in found
    assert "secret" not in str(found)


def test_a_user_who_may_not_run_scripts_is_a_failure_and_one_without_blmove_a_warning(server, monkeypatch):
    server[1].execute_command("ACL", "SETUSER", "poor", "on", ">x", "~*", "+@all", "-eval")
    server[1].execute_command("ACL", "SETUSER", "slow", "on", ">x", "~*", "+@all", "-blmove")
    place = server[0].split("://")[1]

    assert "redis_not_permitted" in codes(f"redis://poor:x@{place}", monkeypatch)[1]
    status, found = codes(f"redis://slow:x@{place}", monkeypatch)
    assert (status, "redis_no_blocking" in found) == ("warn", True)


def test_a_full_server_is_a_failure(server, monkeypatch):
    server[1].config_set("maxmemory", server[1].info()["used_memory"])

    assert "redis_memory_full" in codes(server[0], monkeypatch)[1]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("redis://127.0.0.1:1/0", "redis_down"),
        ("redis://no-such-host.invalid:6379/0", "redis_unresolved"),
        ("http://127.0.0.1:6379", "redis_url_invalid"),
        ("redis://127.0.0.1:port/0", "redis_url_invalid"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_apart(url, code, monkeypatch):
    status, found = codes(url, monkeypatch)

    assert (status, list(found)) == ("fail", [code])


def test_a_server_that_is_silent_costs_its_time_limit_and_no_more(monkeypatch):
    kept = []
    with listener(kept.append) as port:
        status, found = codes(f"redis://127.0.0.1:{port}/0", monkeypatch)

    assert (status, list(found)) == ("fail", ["redis_hangs"])


def test_a_web_server_is_no_redis(monkeypatch):
    with listener(lambda line: (line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), line.close())) as port:
        assert "redis_not_redis" in codes(f"redis://127.0.0.1:{port}/0", monkeypatch)[1]


def test_an_untrusted_certificate_is_refused_and_its_authority_mends_it(server, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    place = server[1].connection_pool.connection_kwargs

    def proxy(line):
        with contextlib.suppress(OSError):
            inner = socket.create_connection((place["host"], place["port"]))
            with inner, context.wrap_socket(line, server_side=True) as sealed:
                while data := sealed.recv(65536):
                    inner.sendall(data)
                    sealed.sendall(inner.recv(1 << 20))

    with listener(proxy) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        assert "redis_tls_refused" in codes(url, monkeypatch)[1]
        assert "redis_fit" in codes(url, monkeypatch, REDIS_CA_CERTS=str(certificate))[1]


def test_a_server_without_tls_is_told_from_an_untrusted_one(server, monkeypatch):
    place = server[0].split("://")[1]

    assert list(codes(f"rediss://{place}", monkeypatch)[1]) == ["redis_tls_failed"]
