"""Files on the worker's machine, only those under MEDIA_ROOT, also after symbolic links are resolved."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote, urlsplit

from voicemill.errors import ErrorCode, JobError


def path_of(address: str) -> str:
    """Return the path of a `file://` URL on this machine.

    Raises:
        JobError: `source_forbidden`: it names another machine; `source_not_found`: it is not a URL.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, f"not a URL: {error}") from None
    if parts.netloc not in ("", "localhost"):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "a file:// URL must not name another machine")
    return unquote(parts.path)


def open_path(name: str, media_root: str | None) -> BufferedReader:
    """Open a regular file in `media_root`. The opened file is checked again by where it really is.

    Args:
        name: relative to `media_root`, or absolute.
        media_root: the folder that files must lie in; None: none may be read.

    Raises:
        JobError: `source_forbidden`, `source_not_found` or `source_unreadable`.
    """
    if not media_root:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "paths are refused, since MEDIA_ROOT is not set on this worker")
    root = Path(os.path.realpath(media_root))
    outside = JobError(ErrorCode.SOURCE_FORBIDDEN, "the path is outside MEDIA_ROOT")
    if not name or "\0" in name:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the path is empty or contains a NUL")
    # Resolved before anything is opened, so that the error reveals nothing about files elsewhere.
    if not _resolved(root / name).is_relative_to(root):
        raise outside
    try:
        # Non-blocking, in case it is a FIFO. A symbolic link that was created meanwhile is detected below.
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
