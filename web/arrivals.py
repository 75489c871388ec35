"""Waits for the transcripts of many jobs over one connection to Redis."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis
from redis import asyncio as aioredis

from voicemill.job import Job
from voicemill.lifecycle import Status, reached
from voicemill.store import connection, keys
from voicemill.store.jobs import BLOCK, parse_status
from web import records

CHECK_EVERY = 5.0  # seconds between checks of the records of silent jobs: the notice of one may have been lost
RETRY_EVERY = 0.5  # seconds between attempts to read while Redis is away
GIVE_UP_AFTER = 60.0  # seconds of that after which all waiting requests fail
REMEMBERED = 1000  # jobs that arrived before anybody waited for them; the stream in Redis keeps about as many


class Arrivals:
    """Reads the stream of jobs that got their transcript or ended, as long as somebody waits for one.

    Args:
        client: of the stream's Redis.
        block: milliseconds for which one read waits in Redis.
        check_every: seconds between checks of the records of silent jobs.
        retry_every: seconds between attempts to read while Redis is away.
        give_up_after: seconds without Redis after which all waiting requests fail.
        remembered: how many jobs that nobody waited for are remembered.
        read: returns a job's record.
    """

    def __init__(
        self,
        client: aioredis.Redis,
        *,
        block: int = BLOCK,
        check_every: float = CHECK_EVERY,
        retry_every: float = RETRY_EVERY,
        give_up_after: float = GIVE_UP_AFTER,
        remembered: int = REMEMBERED,
        read: Callable[[aioredis.Redis, str], Awaitable[Job]] = records.get,
    ) -> None:
        self._client, self._get = client, read
        self._block, self._check_every, self._retry_every = block, check_every, retry_every
        self._give_up_after, self._remembered = give_up_after, remembered
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: OrderedDict[str, None] = OrderedDict()  # the last jobs that arrived before they were waited for
        self._silent: set[str] = set()  # jobs that were already waited for at the last check
        self._checked_at = 0.0  # monotonic seconds
        self._last_id = "0-0"  # of the stream; whatever is added while nobody listens is read later
        self._listening: asyncio.Task[None] | None = None

    async def transcribed(self, job_id: str) -> Job:
        """Wait until a job has its transcript, or has ended without one, and return its record.

        Only one request may wait for a job at a time: the one that sent it.

        Raises:
            UnknownJob: there is no such job, or it was deleted meanwhile.
            RedisError: Redis cannot be used, or has been away for too long.
        """
        try:
            while True:
                arrived = self._waiting[job_id] = asyncio.get_running_loop().create_future()
                if self._listening is None or self._listening.done():
                    self._listening = asyncio.create_task(self._listen())
                if job_id not in self._early:
                    await arrived
                self._early.pop(job_id, None)
                job = await self._get(self._client, job_id)
                if reached(job.status, Status.TRANSCRIBED):
                    return job
        finally:
            del self._waiting[job_id]

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    async def _listen(self) -> None:
        read_at = time.monotonic()
        try:
            while self._waiting:
                try:
                    await self._read()
                    read_at = time.monotonic()
                except redis.RedisError as error:  # jobs continue once Redis is back, and so do we
                    if not connection.may_pass(error) or time.monotonic() - read_at >= self._give_up_after:
                        raise
                    await asyncio.sleep(self._retry_every)
        except Exception as error:  # noqa: BLE001 - every waiting request raises it; nobody awaits this task
            for arrived in self._waiting.values():
                if not arrived.done():
                    arrived.set_exception(error)

    async def _read(self) -> None:
        entries = cast("Any", await self._client.xread({keys.ARRIVALS: self._last_id}, block=self._block))
        for entry_id, fields in entries[0][1] if entries else ():
            self._notify(fields[b"job"].decode())
            self._last_id = entry_id.decode()
        if time.monotonic() - self._checked_at >= self._check_every:
            await self._check()

    async def _check(self) -> None:
        silent = [job_id for job_id in self._waiting if job_id in self._silent]
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in silent:
                pipe.hget(keys.record(job_id), "status")
            found = [parse_status(status) for status in await pipe.execute()] if silent else []
        for job_id, status in zip(silent, found, strict=True):
            if status is None or reached(status, Status.TRANSCRIBED):
                self._notify(job_id)
        self._silent, self._checked_at = set(self._waiting), time.monotonic()

    def _notify(self, job_id: str) -> None:
        arrived = self._waiting.get(job_id)
        if arrived is not None and not arrived.done():
            arrived.set_result(None)
        else:
            self._early[job_id] = None
            if len(self._early) > self._remembered:
                self._early.popitem(last=False)
