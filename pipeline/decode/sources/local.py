"""Files of the worker's machine: those under MEDIA_ROOT, whatever symbolic links say."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote, urlsplit

from voicemill.errors import ErrorCode, JobError


def path_of(address: str) -> str:
    """Return the path of a `file://` address of this machine.

    Raises:
        JobError: `source_forbidden`: it names another machine; `source_not_found`: it is not an address.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, f"not an address: {error}") from None
    if parts.netloc not in ("", "localhost"):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "file:// addresses are of the worker's own machine")
    return unquote(parts.path)


def open_path(name: str, media_root: str | None) -> BufferedReader:
    """Open a regular file that lies in `media_root`, judged by where the opened file really is.

    Args:
        name: relative to `media_root`, or absolute.
        media_root: the folder that files must lie in; None: none may be read.

    Raises:
        JobError: `source_forbidden`, `source_not_found` or `source_unreadable`.
    """
    if not media_root:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "paths are refused, since MEDIA_ROOT is not set on this worker")
    root = Path(os.path.realpath(media_root))
    outside = JobError(ErrorCode.SOURCE_FORBIDDEN, "the path lies outside MEDIA_ROOT")
    if not name or "\0" in name:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the path is empty or holds a NUL")
    # Resolved before anything is opened, so that the answer tells nothing about files elsewhere.
    if not _resolved(root / name).is_relative_to(root):
        raise outside
    try:
        # Without blocking, for a FIFO in the folder; a link that has been put in place meanwhile is judged below.
        descriptor = os.open(root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unopened(error) from None
    inside = _resolved(Path(f"/proc/self/fd/{descriptor}")).is_relative_to(root)
    if inside and stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise (
        outside if not inside else JobError(ErrorCode.SOURCE_NOT_FOUND, "the path is a folder or a device, not a file")
    )


def _resolved(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except OSError as error:
        raise _unopened(error) from None


def _unopened(error: OSError) -> JobError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL):
        return JobError(ErrorCode.SOURCE_NOT_FOUND, f"the file is not there: {error.strerror}")
    return JobError(ErrorCode.SOURCE_UNREADABLE, f"the file cannot be opened: {error.strerror}")
