"""One request: what it trusts, how long it may take, and how little of an answer it reads."""

import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from receiver import SECRET, receiving

from config.settings import Settings
from pipeline.webhook import event, sender
from pipeline.webhook.delivery import Deliverer
from voicemill.config import ClientConfig
from voicemill.store import Store

OPEN = {"webhook_allow_http": True, "webhook_allow_private": True, "webhook_timeout": 0.5}


def post(url, **settings):
    return sender.post(url, b"{}", {"webhook-id": "x"}, Settings(**OPEN | settings))


@contextmanager
def talking(pieces, pause=0.0):
    """A server that reads the beginning of a request and sends these pieces, with a pause before each."""
    over = threading.Event()

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            for piece in pieces:
                if over.wait(pause):
                    break
                try:
                    connection.sendall(piece)
                except OSError:
                    break
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        over.set()
        thread.join()


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK\r\n", *[b"X-More: x\r\n"] * 100]], ids=["silent", "drips"])
def test_a_receiver_that_never_finishes_its_answer_is_abandoned_in_time(pieces):
    began = time.monotonic()
    with talking(pieces, pause=0.1) as url:
        answer = post(url)
    assert answer.error.code == "webhook_timeout"
    assert answer.health == "down"
    assert time.monotonic() - began < 10


def test_only_the_head_of_an_answer_is_read():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    with talking([head, *[b"x" * 65536] * 1000]) as url:
        assert post(url, webhook_timeout=20).error is None


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n"])
def test_an_answer_that_is_not_http_is_reported_as_unreachable(said):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        answer = post(f"http://127.0.0.1:{listener.getsockname()[1]}/", webhook_timeout=30)
        thread.join()
    assert (answer.error.code, answer.health) == ("webhook_unreachable", "down")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:1/", "webhook_unreachable"),
        ("https://nobody.invalid/", "webhook_unreachable"),
        ("https://169.254.169.254/", "webhook_forbidden"),
        ("http://[bad", "webhook_forbidden"),
        ("http://host:99999/", "webhook_forbidden"),
        ("ftp://host/", "webhook_forbidden"),
        ("http://a b/", "webhook_forbidden"),
    ],
)
def test_a_useless_url_fails_with_its_code(url, code):
    assert post(url, webhook_timeout=30).error.code == code


def test_a_certificate_is_trusted_only_if_its_authority_is(tmp_path, monkeypatch):
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", tmp_path / "crt"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with receiving(context=context) as receiver:
        url = receiver.url(host="localhost")
        answer = post(url, webhook_allow_http=False, webhook_timeout=30)
        assert (answer.error.code, answer.health, receiver.got) == ("webhook_untrusted", "down", [])

        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "crt"))
        settings = Settings(webhook_secret=SECRET, webhook_allow_private=True)
        answer = Deliverer(settings, Store(ClientConfig())).send(
            url, "msg_1", event.envelope("webhook.test", time.time(), {"id": "x"})
        )
        assert (answer.error, answer.status, len(receiver.taken)) == (None, 200, 1)
