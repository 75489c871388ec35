"""What a worker process does before it declares an actor: settings, logs, a life tied to its master's, Redis."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import redis
import structlog
from dramatiq.compat import StreamablePipe

from config import environment, logging, settings
from voicemill.config import ClientConfig
from voicemill.errors import JobError
from voicemill.store import Store, connection

UNFIT, USAGE, NO_REDIS = 1, 2, 3  # exit codes
CHECK = 0.5  # seconds between checks whether the master lives
DEAF = 5.0  # seconds after which a worker without a master should have begun to drain; Dramatiq checks every second
PAUSE = 0.5  # seconds between two attempts to reach Redis

draining = threading.Event()  # set once this worker has begun to stop
log = structlog.get_logger(__name__)


def prepare(stage: str) -> tuple[settings.Settings, Store]:
    """Make this process a worker of `stage`, and return the settings that it runs with and the store that it works on.

    Raises:
        SystemExit: 2, a setting is wrong; 3, Redis refuses us, or was not there within `REDIS_START_TIMEOUT`.
    """
    try:
        environment.load()
        os.environ.setdefault("VOICEMILL_CLIENT_NAME", f"voicemill-{stage}")
        chosen = settings.get()
        store = Store(ClientConfig.from_environment())
        connection.parameters(store.config)  # raises if the address is invalid
    except (environment.DotenvError, settings.SettingsError) as error:
        give_up(stage, str(error), USAGE)
    except JobError as error:
        give_up(stage, error.message, USAGE)
    logging.configure(chosen.log_level, chosen.log_format)
    # A signal to the whole group, as honcho and systemd send it, would come twice: from them and from the master.
    os.setpgid(0, 0)
    master = multiprocessing.parent_process()
    if master is not None and master.pid is not None:
        _close_reading_ends(master.sentinel)
        threading.Thread(target=_follow_master, args=(master.pid,), name="master-watch", daemon=True).start()
    _await_redis(stage, store, chosen.redis_start_timeout)
    return chosen, store


def _follow_master(master: int) -> None:
    """Drain and end when the master dies, so that no worker is left that nobody can stop; to be run in a thread.

    The kernel's parent-death signal does not work here: it comes once for each of the master's threads, and Dramatiq
    takes a second SIGTERM as a request to kill. And a worker that is about to report to its master that it is up waits
    in C for an answer that never comes, where no Python signal handler runs: it exits, since it has begun nothing.
    """
    while os.getppid() == master:
        time.sleep(CHECK)
    _silence_output()
    os.kill(os.getpid(), signal.SIGTERM)
    if not draining.wait(DEAF):
        os._exit(UNFIT)


def _close_reading_ends(sentinel: int) -> None:
    """Close the inherited reading ends of the pipes through which the master reads logs.

    While a worker holds the reading end of its own pipe, writing to it never fails after the master's death: the pipe
    fills up, and the worker blocks for ever.
    """
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        with suppress(OSError):  # the listing's own
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            reads = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            if descriptor not in (0, 1, 2, sentinel) and is_pipe and reads:
                os.close(descriptor)


def _silence_output() -> None:
    """Discard output from now on: the master, which forwarded it, is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in {1, 2, sys.stdout.fileno(), sys.stderr.fileno()}:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _await_redis(stage: str, store: Store, timeout: float) -> None:
    place = store.config.address.masked
    deadline = time.monotonic() + timeout
    logged = False
    while True:
        try:
            store.redis.ping()
        except redis.RedisError as error:
            if refused := store.refusal(error):
                give_up(stage, f"Redis at {place} {refused}", NO_REDIS)
            if time.monotonic() >= deadline:
                give_up(stage, f"Redis at {place} was not there within {timeout:g} s: {error}", NO_REDIS)
            if not logged:
                log.warning("Waiting for Redis", stage=stage, place=place, reason=str(error))
                logged = True
            time.sleep(PAUSE)  # nothing announces that Redis is there
        else:
            return


def give_up(stage: str, why: str, code: int) -> NoReturn:
    """End this worker before it has begun, with one line that says why.

    Raises:
        SystemExit: with `code`.
    """
    # Not through Dramatiq's pipe, which the master may stop reading once a worker has ended. Logging may not be set up.
    stream = sys.__stderr__ if isinstance(sys.stderr, StreamablePipe) else sys.stderr
    print(f"{stage}: {why}", file=stream, flush=True)
    raise SystemExit(code)
