"""Stream bytes to the job's folder, within the size limit."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from voicemill.errors import ErrorCode, JobError


def save(chunks: Iterable[bytes], folder: Path, limit: int) -> BufferedReader:
    """Write `chunks` to a file in `folder` and return it open for reading.

    Raises:
        JobError: `source_too_large`: they are more than `limit` bytes; `disk_full`.
    """
    path, size = folder / "source", 0
    try:
        with path.open("wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    break
                file.write(chunk)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JobError(ErrorCode.DISK_FULL, "no space is left to fetch the source") from error
        raise JobError(ErrorCode.SOURCE_UNREADABLE, f"the source cannot be stored: {error.strerror}") from error
    if size > limit:
        raise JobError(ErrorCode.SOURCE_TOO_LARGE, f"it has more than {limit} bytes, which is MAX_SOURCE_BYTES")
    return path.open("rb")
