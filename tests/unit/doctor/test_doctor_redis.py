"""The time limits of the connection to Redis."""

import socket
import threading
import time

import pytest

from pipeline.doctor import resp


def test_a_server_that_is_slow_each_time_is_given_up_when_the_whole_time_is_over():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_slowly, args=(listener,), daemon=True).start()
        connection = resp.Connection(*listener.getsockname(), None, timeout=3.0, total=3.0)
        begun = time.monotonic()
        assert connection.call("PING") == "PONG"
        with pytest.raises(socket.timeout):
            [connection.call("PING") for _ in range(100)]
        connection.close()

    assert time.monotonic() - begun < 15


def answer_slowly(listener):
    connection, _ = listener.accept()
    with connection:
        while connection.recv(100):
            time.sleep(0.2)
            connection.sendall(b"+PONG\r\n")
