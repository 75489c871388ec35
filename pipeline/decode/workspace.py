"""A private folder for each message, which is removed afterwards, even if the worker was killed.

The worker that uses a folder holds a lock on it, which the kernel releases when the process ends for any reason. So the
next worker can distinguish abandoned folders from those in use.
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
SETTLED = 60.0  # seconds after which an empty folder without a lock counts as abandoned: its maker locks it at once


@contextmanager
def workspace(parent: Path | None = None) -> Iterator[Path]:
    """Create a folder that only this user may enter, and remove it with its contents.

    Args:
        parent: where it is created; None: in `TMPDIR`.

    Raises:
        JobError: `disk_full`, or `worker_unfit`: the folder cannot be created.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = ErrorCode.DISK_FULL if full else ErrorCode.WORKER_UNFIT
        raise JobError(code, f"no folder can be created in TMPDIR of the decode worker: {error.strerror}") from error
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path | None = None) -> int:
    """Remove the folders that killed workers left behind, and return how many. Call it when a worker starts.

    Args:
        parent: where they were created; None: in `TMPDIR`.
    """
    removed = 0
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or another worker was faster
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
    """Return whether a folder contains anything. Its maker locks it first, so without a lock it is abandoned."""
    return any(folder.iterdir())


def _settled(found: os.stat_result) -> bool:
    return time.time() - found.st_mtime > SETTLED


def _abandoned(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
