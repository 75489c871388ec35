"""What `decode.send()` checks before a message leaves the backend, so that a mistake is told to whoever made it.

Part of the backend's path: the standard library, dramatiq and redis alone.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import redis
from dramatiq import Broker, Message
from dramatiq.middleware import Middleware, MiddlewareError

from voicemill.errors import CODES, JobError
from voicemill.options import Options, is_text, parse, shown
from voicemill.store import connection, jobs
from voicemill.store import queue as queues
from voicemill.store import workers as presence

LOOK = 10.0  # seconds between a sender's looks at whether every stage has a worker
MAX_SOURCE = 1024**2  # characters: it travels in the message and lives in the record
SCHEMA = 1  # version of the messages between backend and stages

log = logging.getLogger("voicemill")


class Refused(MiddlewareError):
    """`decode.send()` did not send: `code` is one of voicemill/errors.py, the message says what to change."""

    def __init__(self, error: JobError) -> None:
        super().__init__(f"{error}. {CODES[error.code].remedy}")
        self.code = error.code


def admit(args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[str, Options]:
    """Check a message to decode and return its source and options.

    Raises:
        JobError: `invalid_options`, `source_too_large` or `unsupported_schema`.
    """
    if len(args) != 1 or not is_text(args[0]) or not args[0].strip():
        raise JobError("invalid_options", "decode takes one source: a path, an address or an upload")
    if len(args[0]) > MAX_SOURCE:
        most = "an address has at most 1 MiB, which is 768 KiB of audio in a data: address"
        raise JobError("source_too_large", f"{most}: send what handoff.upload() returns instead")
    demand_schema(keywords.get("schema", SCHEMA))
    return args[0], parse({name: value for name, value in keywords.items() if name != "schema"})


def demand_schema(schema: Any) -> None:
    """Refuse a message that a newer Voicemill wrote.

    Raises:
        JobError: `unsupported_schema`.
    """
    if not isinstance(schema, int) or schema > SCHEMA:
        raise JobError(
            "unsupported_schema", f"the message has schema {shown(schema)}, this Voicemill knows up to {SCHEMA}"
        )


class Admission(Middleware):
    """Validates what is sent to decode and writes the job's record, so that it is `queued` when `send()` returns."""

    def __init__(self) -> None:
        self._next_look = 0.0

    @property
    def actor_options(self) -> set[str]:
        """`throws`, which means something to the workers alone."""
        return {"throws"}

    def before_enqueue(self, _broker: Broker, message: Message[Any], _delay: int | None) -> None:
        """Admit a message to decode.

        Raises:
            Refused: the source, an option or the state of the system forbids it; nothing was sent.
        """
        if message.actor_name != "decode":
            return
        try:
            source, options = admit(tuple(message.args), message.kwargs)
            queues.demand_room("decode")
            jobs.create(message.message_id, source, options)
            self._warn()
        except JobError as error:
            raise Refused(error) from None
        except redis.exceptions.OutOfMemoryError:
            raise Refused(JobError("system_full", "Redis has no memory left")) from None
        except redis.RedisError as error:
            reason = (connection.refusal(error) or f"cannot be reached: {error}").rstrip(".")
            raise Refused(JobError("redis_unavailable", f"Redis {reason}")) from error
        except Exception as error:  # Dramatiq would log it, and send the message without a record
            raise Refused(JobError("internal", f"the message could not be checked: {type(error).__name__}")) from error
        message.kwargs["schema"] = SCHEMA

    def _warn(self) -> None:
        """Say so where a stage has no worker: all would seem well, and the job would wait for ever."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK
        for stage in presence.missing():
            log.warning("No live worker consumes the %s stage: jobs wait until one is started.", stage)
