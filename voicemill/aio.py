"""The calls of `voicemill.store.jobs` for asyncio: the same names, arguments and errors.

Part of the backend's path: the standard library and redis, nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

from redis import asyncio as aioredis

from voicemill.store import connection, jobs
from voicemill.store.jobs import BLOCK, ENDED, Event, Job


async def get(job_id: str) -> Job:
    """Return the job's record, as `jobs.get` does."""
    async with _client() as client:
        return await _get(client, job_id)


async def wait(job_id: str, timeout: float | None = None, until: str = "done") -> Job:  # noqa: ASYNC109 - as in jobs
    """Wait for a job, as `jobs.wait` does; it costs a connection while it waits, and no thread."""
    try:
        async with asyncio.timeout(timeout), _client() as client:
            async for _ in _events(client, job_id):
                job = await _get(client, job_id)
                if jobs.reached(job.status, until):
                    return job
            return await _get(client, job_id)
    except TimeoutError:
        raise TimeoutError(f"job {job_id} has not come as far as {until} after {timeout:g} s") from None


async def events(job_id: str) -> AsyncIterator[Event]:
    """Yield all that happened to a job and go on, live, until it has ended, as `jobs.events` does."""
    async with _client() as client:
        async for event in _events(client, job_id):
            yield event


async def cancel(job_id: str) -> bool:
    """End a job as `cancelled`, as `jobs.cancel` does."""
    return await asyncio.to_thread(jobs.cancel, job_id)


async def delete(job_id: str) -> None:
    """Remove every trace of a job, as `jobs.delete` does."""
    await asyncio.to_thread(jobs.delete, job_id)


@contextlib.asynccontextmanager
async def _client() -> AsyncIterator[aioredis.Redis]:
    url, options = connection.parameters()
    async with aioredis.Redis.from_url(url, **options) as client:
        yield client


async def _get(client: aioredis.Redis, job_id: str) -> Job:
    return jobs.parse(job_id, cast("dict[bytes, bytes]", await client.hgetall(jobs.record_key(job_id))))


async def _events(client: aioredis.Redis, job_id: str) -> AsyncIterator[Event]:
    last = b"0-0"
    while True:
        entries = cast("Any", await client.xread({jobs.events_key(job_id): last}, block=BLOCK))
        for last, fields in entries[0][1] if entries else ():
            event = Event(**json.loads(fields[b"event"]))
            yield event
            ended = event.status in ENDED and not event.detail
            if ended and not await client.xread({jobs.events_key(job_id): last}, count=1):
                return  # and it was not tried again since
        if not entries and (await _get(client, job_id)).ended:
            return
