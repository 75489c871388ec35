"""The exit codes of the commands, and which of them an error means."""

from __future__ import annotations

import errno

from voicemill import address
from voicemill.errors import ErrorCode, JobError, UnknownJob

DONE, FAILED, USAGE, NO_REDIS, UNKNOWN_JOB, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

SUMMARY = """exit codes: 0 done, 1 failed or cancelled, 2 wrong usage or settings, 3 Redis cannot be reached,
            4 unknown job, 5 not finished in time"""

# Errors of the disk or the terminal that output is written to.
UNWRITABLE = (errno.EACCES, errno.EDQUOT, errno.EISDIR, errno.ENOSPC, errno.EROFS)

_OF_CODE = {
    ErrorCode.INVALID_OPTIONS: USAGE,
    ErrorCode.INVALID_SETTINGS: USAGE,
    ErrorCode.REDIS_UNAVAILABLE: NO_REDIS,
}


def of(code: ErrorCode) -> int:
    """Return the exit code of a command that failed with an error code."""
    return _OF_CODE.get(code, FAILED)


def explain(error: Exception) -> tuple[str, int] | None:
    """Return the line that explains an error, and its exit code. None: the error is a bug."""
    if isinstance(error, JobError):
        return error.advice, of(error.code)
    if isinstance(error, UnknownJob):
        return str(error), UNKNOWN_JOB
    if isinstance(error, TimeoutError):
        return str(error), UNFINISHED
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return f"{error.filename or 'The output'}: {error.strerror}", FAILED
    return _explain_redis(error)


def _explain_redis(error: Exception) -> tuple[str, int] | None:
    import redis  # noqa: PLC0415 - `--help`, `--version` and the doctor do without

    from voicemill.store import connection  # noqa: PLC0415

    if not isinstance(error, redis.RedisError):
        return None
    place = address.from_environment()
    reason = connection.refusal(error, place) or f"cannot be used: {error}"
    return f"Redis at {place.masked} {reason}", NO_REDIS
