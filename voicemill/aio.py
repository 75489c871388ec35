"""The client for asyncio: the methods of `Client`, awaited.

Following a job costs a connection while it lasts, and no thread; everything else is a short call in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from typing import Any, Self, cast

from redis import asyncio as aioredis

from voicemill import lifecycle
from voicemill.client import Client, Data, Upload
from voicemill.config import ClientConfig
from voicemill.job import Event, Job
from voicemill.lifecycle import Status
from voicemill.status import SystemStatus
from voicemill.store import connection, jobs, keys


class AsyncClient:
    """A client of the Voicemill whose Redis is at `url`. Arguments and errors are those of `Client`."""

    def __init__(self, url: str | None = None, *, config: ClientConfig | None = None, **options: Any) -> None:
        self._client = Client(url, config=config, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self._client!r}"

    @property
    def config(self) -> ClientConfig:
        """The configuration of this client."""
        return self._client.config

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.close)

    async def send(self, source: str, /, **options: Any) -> Job:
        """Send a voice message, as `Client.send` does."""
        return await asyncio.to_thread(self._client.send, source, **options)

    async def upload(self, data: Data, filename: str | None = None) -> Upload:
        """Store the bytes of a voice message, as `Client.upload` does."""
        return await asyncio.to_thread(self._client.upload, data, filename)

    async def send_file(self, data: Data, /, filename: str | None = None, **options: Any) -> Job:
        """Upload a voice message and send it, as `Client.send_file` does."""
        return await asyncio.to_thread(self._client.send_file, data, filename, **options)

    async def get(self, job_id: str) -> Job:
        """Return a job's record, as `Client.get` does."""
        return await asyncio.to_thread(self._client.get, job_id)

    async def wait(
        self,
        job_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `Client`
        until: str = Status.DONE,
    ) -> Job:
        """Wait for a job, as `Client.wait` does."""
        lifecycle.reached("", until)
        try:
            async with asyncio.timeout(timeout), self._connection() as client:
                job = await _get(client, job_id)
                if lifecycle.reached(job.status, until):
                    return job
                async for _ in _events(client, job_id):
                    job = await _get(client, job_id)
                    if lifecycle.reached(job.status, until):
                        return job
                return await _get(client, job_id)
        except TimeoutError:
            raise TimeoutError(f"job {job_id} is not {until} after {timeout:g} s") from None

    async def events(
        self,
        job_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as in `Client`
    ) -> AsyncIterator[Event]:
        """Yield all events of a job, past and live, as `Client.events` does."""
        # No `asyncio.timeout` around a yield: it would cancel the caller's own code between two events (PEP 789).
        async with self._connection() as client:
            await _get(client, job_id)
            async for event in _events(client, job_id, timeout):
                yield event

    async def list(self, status: str | None = None, *, limit: int = 50, before: str | None = None) -> list[Job]:
        """Return jobs, as `Client.list` does."""
        return await asyncio.to_thread(self._client.list, status, limit=limit, before=before)

    async def cancel(self, job_id: str) -> bool:
        """End a job as `cancelled`, as `Client.cancel` does."""
        return await asyncio.to_thread(self._client.cancel, job_id)

    async def retry(self, job_id: str) -> Job:
        """Retry a failed job, as `Client.retry` does."""
        return await asyncio.to_thread(self._client.retry, job_id)

    async def delete(self, job_id: str) -> None:
        """Remove every trace of a job, as `Client.delete` does."""
        await asyncio.to_thread(self._client.delete, job_id)

    async def status(self) -> SystemStatus:
        """Return how the stages are doing, as `Client.status` does."""
        return await asyncio.to_thread(self._client.status)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[aioredis.Redis]:
        url, options = connection.parameters(self.config)
        async with aioredis.Redis.from_url(url, **options) as client:
            yield client


async def _get(client: aioredis.Redis, job_id: str) -> Job:
    return jobs.parse(job_id, cast("dict[bytes, bytes]", await cast("Any", client.hgetall(keys.record(job_id)))))


async def _events(client: aioredis.Redis, job_id: str, timeout: float | None = None) -> AsyncIterator[Event]:  # noqa: ASYNC109
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    last = b"0-0"
    while True:
        block = int(min(jobs.BLOCK, max(1.0, (deadline - time.monotonic()) * 1000)))
        entries = cast("Any", await client.xread({keys.events(job_id): last}, block=block))
        for last, fields in entries[0][1] if entries else ():
            event = Event.from_json(fields[b"event"])
            yield event
            if jobs.is_end(event) and not await client.xread({keys.events(job_id): last}, count=1):
                return  # and it was not retried since
        if not entries:
            if (await _get(client, job_id)).ended:
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(f"job {job_id} has not ended after {timeout:g} s")
