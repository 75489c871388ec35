"""`up`: run all stages on a developer's machine, in one terminal, until Ctrl-C."""

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
from voicemill.address import masked
from voicemill.config import ClientConfig
from voicemill.store import connection

COLOURS = (36, 35, 33, 32, 34)  # of terminal text, by stage
BUNDLED = "bundled:tiny.en"
DATA = environment.STATE / "redis"
CHECK_TIMEOUT = 2.0  # seconds; the stages wait longer for Redis
LOCK = environment.STATE / "up.lock"
GONE = (errno.EPIPE, errno.EIO)  # errors of a pipe without a reader and of a closed terminal


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--stages", nargs="+", metavar="STAGE", help="only these lines of the Procfile (all)")
    parser.add_argument(
        "--web", action="store_true", help="serve the HTTP API and the dashboard, too, at HOST and PORT"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the stages until a signal stops them."""
    commands = procfile()
    unknown = sorted(set(arguments.stages or ()) - set(commands))
    if unknown:
        print(f"the Procfile has no line {unknown[0]!r}; it has {', '.join(commands)}", file=sys.stderr)
        return 2
    chosen = {name: command for name, command in commands.items() if name in (arguments.stages or commands)}
    if arguments.web:
        chosen["web"] = [sys.executable, "-m", "voicemill", "web"]
    timeout = settings.get().shutdown_timeout
    stopping = stops()
    try:
        with _redis() as url:
            stages = Supervisor(chosen, child_environment(url), printer(list(chosen)), timeout)
            stages.start()
            stopping.get()
            _say("stopping …", sys.stderr)
            stages.stop()
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    """Yield the URL of the Redis to use: `REDIS_URL`, or that of an embedded Redis of this clone.

    A `REDIS_URL` that an earlier `up` printed means the embedded Redis, too.
    """
    url = os.environ.get("REDIS_URL", "")
    if url and url not in (environment.embedded_redis(), last_url(DATA)):
        _check(url)
        yield url
        return
    environment.STATE.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"`voicemill up` runs in this clone already, with REDIS_URL={environment.embedded_redis()}"
            ) from None
        with valkey(DATA, durable=True, on_end=_report_restart) as url:
            environment.REDIS_URL_FILE.write_text(url + "\n")
            try:
                print(f"export REDIS_URL={url}   # for your backend; commands in this clone know it", flush=True)
                yield url
            finally:
                environment.REDIS_URL_FILE.unlink(missing_ok=True)


def _check(url: str) -> None:
    """Warn if Redis cannot be used, and say where its address comes from; the stages wait for it."""
    config = ClientConfig.from_environment()
    client = connection.connect(config, socket_timeout=CHECK_TIMEOUT, retries=0)
    try:
        client.ping()
    except redis.RedisError as error:
        place = f"REDIS_URL (environment or .env) names {masked(url)}, which cannot be used: {error}"
        print(f"{place.rstrip('.')}. Unset it to use an embedded Redis.", file=sys.stderr, flush=True)
    finally:
        client.close()


def _report_restart(code: int) -> None:
    _say(f"The embedded Redis ended with exit code {code}; it is restarted", sys.stderr)


def _say(line: str, stream: TextIO) -> None:
    """Print a line if that is possible: the stages survive a closed terminal and a full disk."""
    try:
        print(line, file=stream, flush=True)
    except OSError as error:
        if error.errno in GONE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # flushing the buffer at the end would fail


def child_environment(url: str) -> dict[str, str]:
    """Return the environment of the stages: this process's, with their Redis and a log format for this terminal.

    The default model is the one that `make` installs, so that nothing is downloaded. Settings of `.env` are left out: a
    stage reads them itself, and again after SIGHUP. Its other variables, such as a library's credentials, are included.
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
    """Return a function that prints a stage's line behind the stage's name; threads may share it."""
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
