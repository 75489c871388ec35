"""Check that this machine can decode at all, so that a failure can be attributed to the message."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline.decode import convert, probe
from pipeline.decode.workspace import workspace
from voicemill.errors import ErrorCode, JobError

SAMPLE = Path(__file__).parents[1] / "doctor" / "samples" / "opus.ogg"
ROOM = 16 * 1024**2  # bytes that must be free: a quarter of an hour of decoded speech
TIMEOUT = 30.0  # seconds of each program; half a second of sound takes 0.1


def run(media_root: Path | None, room: int = ROOM) -> None:
    """Decode a short recording as a message is decoded, in a temporary folder with room for an ordinary message.

    Args:
        media_root: the folder that paths of messages are relative to, which must then exist; None: paths are refused.
        room: bytes that must be free in the temporary folder.

    Raises:
        JobError: why this machine cannot decode. Any other exception means the same.
    """
    if media_root is not None and not (media_root.is_dir() and os.access(media_root, os.R_OK | os.X_OK)):
        missing = f"MEDIA_ROOT is {media_root}, which is not a folder that this worker can read: mount or correct it"
        raise JobError(ErrorCode.WORKER_UNFIT, missing)
    with workspace() as folder, SAMPLE.open("rb") as file:
        _check_room(folder, room)
        convert.convert(file, probe.probe(file, folder, None, TIMEOUT), folder, longest=TIMEOUT, seconds=TIMEOUT)


def _check_room(folder: Path, size: int) -> None:
    path = folder / "room"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            least = f"less than {size >> 20} MiB can be written to {folder.parent} ({error.strerror})"
            raise JobError(ErrorCode.DISK_FULL, f"{least}: free space there, or set TMPDIR") from error
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve room
            raise
    finally:
        os.close(descriptor)
        path.unlink()
