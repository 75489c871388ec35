"""`up`: the whole pipeline on a developer's machine, in one terminal, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

import redis

from cli.embedded import StartError, last_url, valkey
from cli.signals import stops
from cli.supervisor import Supervisor, procfile
from config import environment, settings

COLOURS = (36, 35, 33, 32, 34)  # of terminal text, by stage
BUNDLED = "bundled:tiny.en"
DATA = environment.STATE / "redis"
LOOK_TIMEOUT = 2.0  # seconds; the stages wait longer
LOCK = environment.STATE / "up.lock"
GONE = (errno.EPIPE, errno.EIO)  # what is answered where nobody will read any more: a pipe's reader, a terminal


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="only these lines of the Procfile (all)")
    parser.add_argument("--web", action="store_true", help="open the door, too, at HOST and PORT (`web`)")


def run(arguments: argparse.Namespace) -> int:
    """Run the stages until a signal says stop."""
    commands = procfile()
    unknown = sorted(set(arguments.stages or ()) - set(commands))
    if unknown:
        print(f"no line {unknown[0]!r} in the Procfile; there are {', '.join(commands)}", file=sys.stderr)
        return 2
    chosen = {name: command for name, command in commands.items() if name in (arguments.stages or commands)}
    if arguments.web:
        chosen["web"] = [sys.executable, "-m", "pipeline", "web"]
    timeout = settings.get().shutdown_timeout
    told = stops()
    try:
        with _redis() as url:
            stages = Supervisor(chosen, child_environment(url), printer(list(chosen)), timeout)
            stages.start()
            told.get()
            _say("stopping …", sys.stderr)
            stages.stop()
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    """Yield the URL of the Redis to use: the one that `REDIS_URL` names, else an embedded one of this clone.

    The embedded one's last address counts as it itself: a shell may still hold the export line of an earlier `up`.
    """
    url = os.environ.get("REDIS_URL", "")
    if url and url not in (environment.embedded_redis(), last_url(DATA)):
        _look(url)
        yield url
        return
    environment.STATE.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"`up` runs in this clone already, with REDIS_URL={environment.embedded_redis()}"
            ) from None
        with valkey(DATA, durable=True, on_end=_tell_of_redis) as url:
            environment.REDIS_URL_FILE.write_text(url + "\n")
            try:
                print(f"export REDIS_URL={url}   # for your backend; commands in this clone know it", flush=True)
                yield url
            finally:
                environment.REDIS_URL_FILE.unlink(missing_ok=True)


def _look(url: str) -> None:
    """Say where the address comes from if no Redis serves there; the stages wait for it."""
    client = store.connect(socket_timeout=LOOK_TIMEOUT, retries=0)
    try:
        client.ping()
    except redis.RedisError as error:
        place = f"REDIS_URL (environment or .env) names {settings.mask_url(url)}, which cannot be used: {error}"
        print(f"{place.rstrip('.')}. Unset it for a Redis of `up`'s own.", file=sys.stderr, flush=True)
    finally:
        client.close()


def _tell_of_redis(code: int) -> None:
    _say(f"The embedded Redis ended with exit code {code}; it is started again", sys.stderr)


def _say(line: str, stream: TextIO) -> None:
    """Print a line, or do without: the stages outlive whoever reads of them, such as a terminal, and a full disk."""
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        if error.errno in GONE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what waits to be written would fail at the end


def child_environment(url: str) -> dict[str, str]:
    """Return the environment of the stages: ours, with their Redis, and logs in the form that suits our terminal.

    Where no model is named it is the one that `make` has installed, so that nothing needs to be fetched. Settings of
    `.env` are not in it: a stage reads them by itself, and anew after SIGHUP. What else stands there, as a library's
    credentials, is.
    """
    known = environment.values()
    others = environment.dotenv().keys() - {name.upper() for name in settings.Settings.model_fields}
    found = {name: known[name] for name in others & known.keys()} | os.environ | {"REDIS_URL": url}
    if "WHISPER_MODEL" not in known:
        found["WHISPER_MODEL"] = BUNDLED
    if known.get("LOG_FORMAT", "auto") == "auto":
        found["LOG_FORMAT"] = "console" if sys.stdout.isatty() else "json"
    if sys.stdout.isatty():
        found["FORCE_COLOR"] = "1"
    return found


def printer(names: list[str]) -> Callable[[str, str], None]:
    """Return the function that prints a stage's line behind the stage's name, whole lines from all threads."""
    width = max(map(len, names))
    lock = threading.Lock()
    coloured = sys.stdout.isatty()

    def show(name: str, line: str) -> None:
        label = f"{name:<{width}} |"
        if coloured:
            label = f"\x1b[{COLOURS[names.index(name) % len(COLOURS)]}m{label}\x1b[0m"
        with lock:
            _say(f"{label} {line}", sys.stdout)

    return show
