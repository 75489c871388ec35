"""Job records and their events, read without a thread for each who listens."""

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
class News:
    """What a job's stream had to tell: `events` as pairs of Redis's id and JSON, and the status of the job after it."""

    events: list[tuple[str, str]]
    status: str


async def get(client: aioredis.Redis, job_id: str) -> Job:
    """Return a job's record.

    Raises:
        UnknownJob: there is no such job.
    """
    return parse(job_id, cast("dict[bytes, bytes]", await cast("Any", client.hgetall(keys.record(job_id)))))


async def follow(client: aioredis.Redis, job_id: str, after: str = START) -> AsyncIterator[News]:
    """Yield what happened to a job after an event, and go on, live, until it has ended; now and then without events.

    A job that failed and was tried again has an end in the middle of its events: the record says whether it is one.

    Raises:
        UnknownJob: there is no such job, or it was deleted meanwhile.
    """
    last = after
    while True:
        entries = cast("Any", await client.xread({keys.events(job_id): last}, block=BLOCK))
        events = [(at.decode(), fields[b"event"].decode()) for at, fields in entries[0][1]] if entries else []
        status = parse_status(cast("bytes | None", await cast("Any", client.hget(keys.record(job_id), "status"))))
        if status is None:
            raise UnknownJob(job_id)
        yield News(events, status)
        if status in ENDED and (not events or json.loads(events[-1][1])["status"] in ENDED):
            return
        if events:
            last = events[-1][0]
