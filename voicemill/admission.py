"""What is checked before a message leaves the backend, so that whoever makes a mistake hears of it at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import redis

from voicemill.errors import ErrorCode, JobError, Refused
from voicemill.lifecycle import FIRST
from voicemill.options import Options, is_text, parse, shown
from voicemill.store.queue import SCHEMA, letter

if TYPE_CHECKING:
    from voicemill.job import Job
    from voicemill.store import Store

CHECK = 10.0  # seconds between a sender's checks whether every stage has a worker
MAX_DELAY = 7 * 86400.0  # seconds; a tombstone is kept longer
MAX_SOURCE = 1024**2  # characters: it lives in the record

log = logging.getLogger("voicemill")


class Sender:
    """Sends jobs to one Redis, and warns if nobody will process them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next_check = 0.0

    def send(
        self,
        job_id: str,
        args: Sequence[Any],
        keywords: Mapping[str, Any],
        *,
        delay: float = 0.0,
        owner: str | None = None,
    ) -> Job:
        """Validate a job, write its record and queue it for decode, in one step; return the job.

        Args:
            job_id: of the new job.
            args: the source: a path, a URL or an upload.
            keywords: the options.
            delay: seconds before it may begin, at most 7 days.
            owner: tenant that the job belongs to.

        Raises:
            Refused: the source, an option or the state of the system forbids it; nothing was sent.
        """
        try:
            source, options = admit(args, keywords)
            _demand_delay(delay)
            self._store.queues.demand_room(FIRST)
            self._warn()
            message = letter(FIRST, job_id, delay=delay)
            return self._store.jobs.create(job_id, source, options, owner=owner, message=message)
        except JobError as error:
            raise Refused(error.code, error.message) from None
        except redis.RedisError as error:
            raise self.refusal(error) from error

    def refusal(self, error: redis.RedisError) -> Refused:
        """Return the refusal of a job that Redis did not take."""
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return Refused(ErrorCode.SYSTEM_FULL, "Redis has no memory left")
        reason = (self._store.refusal(error) or f"cannot be reached: {error}").rstrip(".")
        place = self._store.config.address.masked
        return Refused(ErrorCode.REDIS_UNAVAILABLE, f"Redis at {place} {reason}")

    def _warn(self) -> None:
        """Log a warning if a stage has no worker: the job would wait for ever."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK
        for stage in self._store.workers.missing():
            log.warning("No live worker consumes the %s stage: jobs wait until one is started.", stage)


def admit(args: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, Options]:
    """Validate the arguments of a message to decode and return its source and options.

    Raises:
        JobError: `invalid_options`, `source_too_large` or `unsupported_schema`.
    """
    if len(args) != 1 or not is_text(args[0]) or not args[0].strip():
        raise JobError(ErrorCode.INVALID_OPTIONS, "decode takes one source: a path, a URL or an upload")
    if len(args[0]) > MAX_SOURCE:
        most = "a URL has at most 1 MiB, which is 768 KiB of audio in a data: URL"
        raise JobError(ErrorCode.SOURCE_TOO_LARGE, f"{most}; upload the audio instead")
    demand_schema(keywords.get("schema", SCHEMA))
    return args[0], parse({name: value for name, value in keywords.items() if name != "schema"})


def demand_schema(schema: Any) -> None:
    """Refuse a message that a newer Voicemill wrote.

    Raises:
        JobError: `unsupported_schema`.
    """
    if not isinstance(schema, int) or schema > SCHEMA:
        message = f"the message has schema {shown(schema)}, this Voicemill knows up to {SCHEMA}"
        raise JobError(ErrorCode.UNSUPPORTED_SCHEMA, message)


def _demand_delay(delay: float) -> None:
    if not 0 <= delay <= MAX_DELAY:
        message = f"delay is {delay:g} s; it must be from 0 to {MAX_DELAY:g}, which is 7 days"
        raise JobError(ErrorCode.INVALID_OPTIONS, message)
