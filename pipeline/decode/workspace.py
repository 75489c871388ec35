"""A private folder for each message, empty and gone afterwards, also when the worker was killed in the middle.

Whoever works in a folder holds a lock on it, which the kernel gives back when the process ends, however it ends. So the
next worker can tell what was left behind from what is in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from voicemill.errors import ErrorCode, JobError

PREFIX = "voicemill-decode-"
SETTLED = 60.0  # seconds after which the maker of a folder that is still empty has surely locked it


@contextmanager
def workspace() -> Iterator[Path]:
    """Make a folder that only this user may enter, and remove it with all that is in it.

    Raises:
        JobError: `disk_full`, or `worker_unfit`: the folder cannot be created.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = ErrorCode.DISK_FULL if full else ErrorCode.WORKER_UNFIT
        raise JobError(code, f"no folder can be made in TMPDIR of the decode worker: {error.strerror}") from error
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep() -> int:
    """Remove the folders that killed workers left behind, and return how many; to be called when a worker starts."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another's, or another worker was quicker
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(lock)
                if found.st_uid == os.getuid() and _abandoned(lock) and (_used(folder) or _settled(found)):
                    shutil.rmtree(folder)
                    removed += 1
            finally:
                os.close(lock)
    return removed


def _used(folder: Path) -> bool:
    """Tell whether a folder holds anything: its maker locks it first, so what is not locked now was left."""
    return any(folder.iterdir())


def _settled(found: os.stat_result) -> bool:
    return time.time() - found.st_mtime > SETTLED


def _abandoned(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
