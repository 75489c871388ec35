"""Records and events of jobs, read without a thread for each reader."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

from redis import asyncio as aioredis

from voicemill.errors import UnknownJob
from voicemill.job import Job
from voicemill.lifecycle import ENDED
from voicemill.store import keys
from voicemill.store.jobs import BLOCK, parse, parse_status

START = "0-0"  # before every event


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The next events of a job, as pairs of Redis's id and JSON, and the job's status after them."""

    events: list[tuple[str, str]]
    status: str


async def get(client: aioredis.Redis, job_id: str) -> Job:
    """Return a job's record.

    Raises:
        UnknownJob: there is no such job.
    """
    return parse(job_id, cast("dict[bytes, bytes]", await cast("Any", client.hgetall(keys.record(job_id)))))


async def has_event_after(client: aioredis.Redis, job_id: str, event_id: str) -> bool:
    """Return whether a job has events after this one."""
    return bool(await client.xread({keys.events(job_id): event_id}, count=1))


async def follow(
    client: aioredis.Redis, job_id: str, after: str = START, *, block: int = BLOCK
) -> AsyncIterator[EventBatch]:
    """Yield a job's events after a given one, and new ones until the job has ended; now and then an empty batch.

    A job that failed and was retried has an end in the middle of its events: its record says which one is final.

    Args:
        client: of the job's Redis.
        job_id: the job.
        after: Redis's id of an event.
        block: milliseconds until an empty batch.

    Raises:
        UnknownJob: there is no such job, or it was deleted meanwhile.
    """
    last = after
    while True:
        entries = cast("Any", await client.xread({keys.events(job_id): last}, block=block))
        events = [(at.decode(), fields[b"event"].decode()) for at, fields in entries[0][1]] if entries else []
        status = parse_status(cast("bytes | None", await cast("Any", client.hget(keys.record(job_id), "status"))))
        if status is None:
            raise UnknownJob(job_id)
        yield EventBatch(events, status)
        if status in ENDED and (not events or json.loads(events[-1][1])["status"] in ENDED):
            return
        if events:
            last = events[-1][0]
