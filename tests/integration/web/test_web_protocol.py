"""Limits of what is not a body, and requests within them, however they are split."""

import socket
import time

import pytest
from http_api import KEY, TIMEOUT

from web.protocol import BOUND, Protocol

PIECE = 4096  # bytes
FAR = 64 * 1024 * 1024  # bytes that cannot all be sent: more than the sockets buffer
HEAD = f"Host: server\r\nAuthorization: Bearer {KEY}\r\n".encode()
CHUNKED = (
    b"POST /page/sign-in HTTP/1.1\r\nHost: server\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture
def connection(serve):
    with socket.create_connection(("127.0.0.1", serve().port), TIMEOUT) as connected:
        yield connected


def sent(connection, piece, most=FAR):
    """Send a piece repeatedly until the server closes the connection; return how many bytes were sent."""
    total = 0
    connection.settimeout(0)
    while total < most:
        try:
            total += connection.send(piece)
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            break
    connection.settimeout(TIMEOUT)
    return total


@pytest.mark.parametrize("beginning", [b"GET /", b"GET / HTTP/1.1\r\nX-Long: ", b"GET / HTTP/1.1\r\nHost: server\r\n"])
def test_a_head_without_an_end_is_rejected(connection, beginning):
    connection.sendall(beginning)
    piece = b"x" * PIECE if not beginning.endswith(b"server\r\n") else b"X-More: x\r\n" * (PIECE // 11)
    assert sent(connection, piece) < FAR
    with connection:
        assert connection.recv(12) in (b"HTTP/1.1 400", b"")  # nothing, if the reset came first


@pytest.mark.parametrize("endless", [b"0\r\nX-Trailer: ", b"0\r\nX: y\r\n", b"1;extension="])
def test_endless_trailers_and_chunk_extensions_close_the_connection(connection, endless):
    connection.sendall(CHUNKED + b"3\r\nkey\r\n" + endless)
    piece = b"X-Trailer: x\r\n" * (PIECE // 14) if endless.endswith(b"\r\n") else b"x" * PIECE
    assert sent(connection, piece) < FAR


def test_a_head_that_is_too_large_is_answered(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * BOUND)
    answer = b"".join(iter(lambda: connection.recv(PIECE), b""))
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b"The head of the request is too large.")


def test_a_large_head_within_the_limit_is_accepted_byte_by_byte(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b"GET /v1/models HTTP/1.1\r\n" + HEAD + b"X-Long: " + b"x" * (BOUND // 2) + b"\r\n\r\n"
    for byte in range(200):
        connection.sendall(request[byte : byte + 1])
    connection.sendall(request[200:])
    assert connection.recv(12) == b"HTTP/1.1 200"


def test_many_requests_on_one_connection_do_not_add_up(connection):
    request = b"GET /v1/models HTTP/1.1\r\n" + HEAD + b"X-Long: " + b"x" * (BOUND // 4) + b"\r\n\r\n"
    for _ in range(8):
        connection.sendall(request)
        answer = b""
        while b"whisper-1" not in answer:
            answer += connection.recv(PIECE)
        assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: server\r\n"], ids=["nothing", "half a head"])
@pytest.mark.parametrize("before", [False, True], ids=["at once", "after a request"])
def test_a_connection_without_a_complete_head_is_closed(serve, before, beginning):
    class Impatient(Protocol):
        silence = 1.0

    with socket.create_connection(("127.0.0.1", serve(protocol=Impatient).port), TIMEOUT) as connection:
        if before:
            connection.sendall(b"GET /v1/models HTTP/1.1\r\n" + HEAD + b"\r\n")
            answer = b""
            while b"whisper-1" not in answer:
                answer += connection.recv(PIECE)
        connection.sendall(beginning)

        assert connection.recv(PIECE) == b""


def test_a_request_may_take_longer_than_its_head(serve):
    class Impatient(Protocol):
        silence = 0.5

    with socket.create_connection(("127.0.0.1", serve(protocol=Impatient).port), TIMEOUT) as connection:
        connection.sendall(b"POST /page/sign-in HTTP/1.1\r\nHost: server\r\nContent-Length: 1\r\n\r\n")
        time.sleep(1)
        connection.sendall(b"x")

        assert connection.recv(12) == b"HTTP/1.1 403"
