"""Fetching over HTTP from servers that misbehave in every way that servers do."""

import base64
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack

import misbehaving
import pytest

from config.settings import Settings
from pipeline.decode.sources import web
from pipeline.network import addresses
from voicemill.errors import JobError

OPEN = {"source_allow_http": True, "source_allow_private": True, "fetch_timeout": 20, "fetch_read_timeout": 5}


@pytest.fixture(scope="module")
def message(voice):
    return voice.read_bytes()


@pytest.fixture
def short_pauses(monkeypatch):
    """Let attempts follow each other quickly."""
    monkeypatch.setattr(web, "FIRST_PAUSE", 0.01)


@pytest.fixture
def server(message, short_pauses):
    with misbehaving.serving(message) as server:
        yield server


GOOD = [
    "good",
    "nolength",
    "chunked",
    "negative",
    "resume",
    "changed",
    "otherpart",
    "busyonce",
    "to?/good",
    "to?/to?/good",
]


@pytest.mark.parametrize("path", GOOD)
def test_a_message_is_fetched_however_it_is_served(server, decode, path):
    assert decode(server.url(path), **OPEN).duration == pytest.approx(6.72, abs=0.01)


def test_a_lost_connection_is_resumed_where_it_broke(server, decode):
    decode(server.url("resume"), **OPEN)
    assert [headers.get("Range") for _, headers in server.asked] == [None, "bytes=9000-"]


BAD = {
    "missing": "source_not_found",
    "gone": "source_not_found",
    "loop": "source_not_found",
    "nowhere": "source_not_found",
    "nocontent": "source_not_found",
    "secret": "source_forbidden",
    "down": "source_unavailable",
    "busy": "source_unavailable",
    "limited": "source_unavailable",
    "resets": "source_unavailable",
    "nonsense": "source_unavailable",
    "badchunks": "source_unavailable",
    "toolong": "source_unavailable",
    "gigantic": "source_unavailable",
    "unasked": "source_unavailable",
    "bighead": "source_unavailable",
    "empty": "empty_source",
    "page": "undecodable",
    "endless": "source_too_large",
    "to?ftp://127.0.0.1/": "source_forbidden",
    "to?file:///etc/passwd": "source_forbidden",
    "to?data:,x": "source_forbidden",
    "to?http://169.254.169.254/latest/meta-data/": "source_forbidden",
    "to?http://[fe80::1]/": "source_forbidden",
    "to?//169.254.169.254/": "source_forbidden",
    "to?http://": "source_not_found",
    "to?http://[bad": "source_not_found",
    "to?http://[::1": "source_not_found",
    "to?//[": "source_not_found",
    "to?https://x:99999/": "source_not_found",
}


@pytest.mark.parametrize(("path", "expected"), BAD.items(), ids=BAD)
def test_an_unavailable_message_fails_with_its_code(server, code, path, expected):
    assert code(server.url(path), **OPEN, max_source_bytes=20_000_000) == expected


@pytest.mark.parametrize("path", ["dribble", "dribblehead", "silent", "hangs"])
def test_no_server_blocks_a_worker_beyond_the_time_limit(server, code, path):
    started = time.monotonic()
    assert code(server.url(path), **OPEN | {"fetch_timeout": 0.7}) == "source_timeout"
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("path", ["silent", "hangs"])
def test_a_silent_server_is_asked_again_long_before_the_time_limit(server, code, path):
    assert code(server.url(path), **OPEN | {"fetch_read_timeout": 0.1}) == "source_unavailable"
    assert server.times(path) == web.ATTEMPTS


@pytest.mark.usefixtures("short_pauses")
def test_an_unreachable_server_is_given_up_long_before_the_time_limit(code):
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # Linux queues a connection or two beyond the backlog, and drops further ones
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        assert code(url, **OPEN | {"fetch_timeout": 3, "fetch_connect_timeout": 0.1}) == "source_unavailable"


def test_nothing_is_read_beyond_the_stated_length(server, decode):
    assert decode(server.url("short"), **OPEN).duration < 5


def test_a_long_retry_after_is_left_to_the_queue(server, decode):
    with pytest.raises(JobError) as caught:
        decode(server.url("limited"), **OPEN)
    assert caught.value.retry_after == 3600
    assert caught.value.code.retryable
    assert server.times("limited") == 1


def test_a_redirect_to_a_private_address_is_not_followed(server, tmp_path):
    """The first server passes as a public one would; the one that it redirects to is checked as well."""
    seen = []

    def check(host, port):
        seen.append(host)
        return [("127.0.0.1", port)] if host == "voice.example" else addresses.checked(host, port, addresses.Policy())

    start = server.url(f"to?{server.url('good')}", host="voice.example")
    with pytest.raises(JobError, match="source_forbidden"):
        web.fetch(start, tmp_path, Settings(source_allow_http=True), check)
    assert seen == ["voice.example", "127.0.0.1"]
    assert server.times("good") == 0


def test_credentials_are_sent_to_their_own_server_only(server, tmp_path):
    url = server.url(f"to?{server.url('good', host='elsewhere.example')}", credentials="me:secret@")
    web.fetch(url, tmp_path, Settings(**OPEN), lambda _host, port: [("127.0.0.1", port)]).close()
    assert "authorization" in {name.lower() for name in server.asked[0][1]}
    assert "authorization" not in {name.lower() for name in server.asked[1][1]}
    assert server.asked[1][1]["Host"].startswith("elsewhere.example")


@pytest.mark.parametrize(
    ("written", "meant"), [("me:p%40ss%2F%25@", b"me:p@ss/%"), ("m%C3%A9:%20@", "mé: ".encode()), ("me@", b"me")]
)
def test_percent_encoded_credentials_are_decoded(server, decode, written, meant):
    decode(server.url("good", credentials=written), **OPEN)
    scheme, _, given = server.asked[0][1]["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(given)) == ("Basic", meant)


def test_http_is_refused_unless_allowed(server, code):
    assert code(server.url("good"), source_allow_private=True) == "source_forbidden"
    assert server.asked == []


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate of localhost, and a server's context with it."""
    certificate, key = tmp_path / "localhost.crt", tmp_path / "localhost.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


def test_an_untrusted_certificate_is_reported(code, message, certificate):
    with misbehaving.serving(message, certificate[1]) as secure:
        assert code(secure.url("good", host="localhost"), **OPEN) == "source_untrusted"


def test_a_redirect_from_https_to_http_is_not_followed(server, decode, message, certificate, monkeypatch):
    """Not even if http:// is permitted: the sender of an https:// URL expects secrecy and integrity."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with misbehaving.serving(message, certificate[1]) as secure:
        assert decode(secure.url("to?/good", host="localhost"), **OPEN).duration > 6
        with pytest.raises(JobError, match="redirects from https to http"):
            decode(secure.url(f"to?{server.url('good')}", host="localhost"), **OPEN)
    assert server.asked == []


def test_no_error_message_contains_the_query_of_a_url(server, tmp_path, decode):
    with pytest.raises(JobError) as caught:
        decode(server.url("missing?signature=secret"), **OPEN)
    assert "secret" not in str(caught.value)
