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
LOOK = 0.5  # seconds between looks at whether the master lives
DEAF = 5.0  # seconds after which a worker without a master should have begun to drain; Dramatiq looks every second
PAUSE = 0.5  # seconds between two tries to reach Redis

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
        connection.parameters(store.config)  # raises if the address is none
    except (environment.DotenvError, settings.SettingsError) as error:
        give_up(stage, str(error), USAGE)
    except JobError as error:
        give_up(stage, error.message, USAGE)
    logging.configure(chosen.log_level, chosen.log_format)
    # A signal to the whole group, as honcho and systemd send it, would come twice: from them and from the master.
    os.setpgid(0, 0)
    master = multiprocessing.parent_process()
    if master is not None and master.pid is not None:
        _let_go_of_reading_ends(master.sentinel)
        threading.Thread(target=_follow_the_master, args=(master.pid,), name="master-watch", daemon=True).start()
    _await_redis(stage, store, chosen.redis_start_timeout)
    return chosen, store


def _follow_the_master(master: int) -> None:
    """Drain and end when the master dies, and so leave no worker that nobody can stop; to be run in a thread.

    The kernel's parent-death signal does not do here. It comes once for each of the master's threads, and Dramatiq
    takes a second SIGTERM for a wish to kill. And a worker that is about to tell its master that it is up waits in C
    for an answer that never comes, where no handler of Python's runs: such a one ends, for it has begun nothing.
    """
    while os.getppid() == master:
        time.sleep(LOOK)
    _fall_silent()
    os.kill(os.getpid(), signal.SIGTERM)
    if not draining.wait(DEAF):
        os._exit(UNFIT)


def _let_go_of_reading_ends(sentinel: int) -> None:
    """Close what a fork inherited of the pipes that the master reads logs from.

    While a worker holds the reading end of its own pipe, a dead master goes unnoticed by whoever writes: the pipe fills
    up, and the worker waits for ever instead of being told that nobody listens.
    """
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        with suppress(OSError):  # the listing's own
            is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
            reads = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            if descriptor not in (0, 1, 2, sentinel) and is_pipe and reads:
                os.close(descriptor)


def _fall_silent() -> None:
    """Write what is printed from now on to nowhere: the master passed it on, and it is gone."""
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
    # Past Dramatiq's pipe, which its master may read no more once it sees that a worker has ended. Logs may not be set
    # up yet.
    stream = sys.__stderr__ if isinstance(sys.stderr, StreamablePipe) else sys.stderr
    print(f"{stage}: {why}", file=stream, flush=True)
    raise SystemExit(code)
