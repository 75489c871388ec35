"""Tells those who wait for a transcript that theirs is there: all of them over one connection."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any, cast

import redis
from redis import asyncio as aioredis

from voicemill.job import Job
from voicemill.lifecycle import reached
from voicemill.store import connection, keys
from voicemill.store.jobs import ARRIVALS, BLOCK, parse_status
from web import records

LOOK = 5.0  # seconds between looks at the records of those that nothing is heard of: what tells of them may be lost
PAUSE = 0.5  # seconds between tries to hear something while Redis is away
PATIENCE = 60.0  # seconds of that after which each who waits is told


class Arrivals:
    """Hears of every job that gets its transcript or ends, as long as somebody waits for one."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._early: OrderedDict[str, None] = OrderedDict()  # the last that nobody waited for yet when they came
        self._quiet: set[str] = set()  # jobs that were waited for at the last look
        self._looked = 0.0  # by the monotonic clock (seconds)
        self._last = "0-0"  # what was heard last; of what happened while nobody listened nothing is left out
        self._listening: asyncio.Task[None] | None = None

    async def transcribed(self, job_id: str) -> Job:
        """Wait until a job has its transcript, or has ended without one, and return its record.

        One may wait for a job at a time: who sent it.

        Raises:
            UnknownJob: there is no such job, or it was deleted meanwhile.
            RedisError: Redis cannot be used, and has not been for PATIENCE where that may pass.
        """
        try:
            while True:
                told = self._waiting[job_id] = asyncio.get_running_loop().create_future()
                if self._listening is None or self._listening.done():
                    self._listening = asyncio.create_task(self._listen())
                if job_id not in self._early:
                    await told
                self._early.pop(job_id, None)
                job = await records.get(self._client, job_id)
                if reached(job.status, "transcribed"):
                    return job
        finally:
            del self._waiting[job_id]

    async def close(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})

    async def _listen(self) -> None:
        heard = time.monotonic()
        try:
            while self._waiting:
                try:
                    await self._hear()
                    heard = time.monotonic()
                except redis.RedisError as error:  # the jobs go on once it is back, and so does the waiting
                    if not connection.may_pass(error) or time.monotonic() - heard >= PATIENCE:
                        raise
                    await asyncio.sleep(PAUSE)
        except Exception as error:  # noqa: BLE001 - it is the failure of each who waits, and would be nobody's otherwise
            for told in self._waiting.values():
                if not told.done():
                    told.set_exception(error)

    async def _hear(self) -> None:
        entries = cast("Any", await self._client.xread({keys.ARRIVALS: self._last}, block=BLOCK))
        for at, fields in entries[0][1] if entries else ():
            self._tell(fields[b"job"].decode())
            self._last = at.decode()
        if time.monotonic() - self._looked >= LOOK:
            await self._look()

    async def _look(self) -> None:
        quiet = [job_id for job_id in self._waiting if job_id in self._quiet]
        async with self._client.pipeline(transaction=False) as pipe:
            for job_id in quiet:
                pipe.hget(keys.record(job_id), "status")
            found = [parse_status(status) for status in await pipe.execute()] if quiet else []
        for job_id, status in zip(quiet, found, strict=True):
            if status is None or reached(status, "transcribed"):
                self._tell(job_id)
        self._quiet, self._looked = set(self._waiting), time.monotonic()

    def _tell(self, job_id: str) -> None:
        told = self._waiting.get(job_id)
        if told is not None and not told.done():
            told.set_result(None)
        else:
            self._early[job_id] = None
            if len(self._early) > ARRIVALS:
                self._early.popitem(last=False)
