"""Waiting for transcripts at the door: heard of at once, over one connection however many wait, and never for ever."""

import asyncio
import uuid

import pytest
import redis
from live import jobs, store
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.lifecycle import reached
from voicemill.options import Options
from voicemill.store import keys
from web import arrivals
from web.arrivals import Arrivals

pytestmark = pytest.mark.usefixtures("redis_url")
SOON = 30.0  # seconds that stand for "never"
TRANSCRIPT = {"text": "Hello.", "segments": []}


def sent(enrich=True):
    job_id = str(uuid.uuid4())
    jobs.create(job_id, "upload:1", Options(enrich=enrich))
    return job_id


def give_transcript(job_id, *, last=False):
    jobs.begin(job_id, "transcribe", "test:1")
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, last=last)


def run(redis_url, play, **options):
    """Await `play` of an `Arrivals` on a client of its own, for no longer than SOON."""

    async def whole():
        async with aioredis.Redis.from_url(redis_url, **options) as client, asyncio.timeout(SOON):
            room = Arrivals(client)
            try:
                return await play(room)
            finally:
                await room.close()

    return asyncio.run(whole())


async def listening(redis_url):
    """Wait until a connection blocks in Redis for what is to come."""
    async with aioredis.Redis.from_url(redis_url) as client:
        while not (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - Redis tells nobody of it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "end",
    [
        give_transcript,
        lambda job: give_transcript(job, last=True),
        lambda job: jobs.fail(job, "decode", JobError(ErrorCode.UNDECODABLE, "it is no audio")),
        jobs.cancel,
    ],
    ids=["transcribed", "done", "failed", "cancelled"],
)
def test_each_way_to_end_is_heard_of(redis_url, monkeypatch, end):
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)

    async def play(room):
        waiting = asyncio.create_task(room.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(end, job_id)
        return await waiting

    job_id = sent()
    assert reached(run(redis_url, play).status, "transcribed")


def test_what_is_over_already_is_told_at_once(redis_url, monkeypatch):
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)
    job_id = sent()
    give_transcript(job_id)
    assert run(redis_url, lambda room: room.transcribed(job_id)).transcript == TRANSCRIPT


def test_what_ends_while_nobody_listens_is_heard_of(redis_url, monkeypatch):
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)
    first, second = sent(), sent()

    async def play(room):
        give_transcript(first)
        await room.transcribed(first)
        await room.close()
        await asyncio.to_thread(give_transcript, second)
        return await room.transcribed(second)

    assert run(redis_url, play).transcript == TRANSCRIPT


def test_what_is_heard_of_before_it_is_waited_for_is_told_at_once(redis_url, monkeypatch):
    """Its sender may have been slower than the job; of those that nobody ever asks for only the last are remembered."""
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)
    monkeypatch.setattr(jobs, "ARRIVALS", 3)
    early, later = [sent() for _ in range(4)], sent()

    async def play(room):
        waiting = asyncio.create_task(room.transcribed(later))
        await listening(redis_url)
        for job_id in (*early, later):
            await asyncio.to_thread(give_transcript, job_id)
        await waiting  # it was the last to end: the others were heard of
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(room.transcribed(early[0]), 0.1)
        return [await room.transcribed(job_id) for job_id in early[1:]]

    assert [job.transcript for job in run(redis_url, play)] == [TRANSCRIPT] * 3


def test_a_job_that_goes_on_after_its_end_is_waited_for_again(redis_url, monkeypatch):
    """It failed, and was sent again before its record was read; and it ended anew while that was being done."""
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)
    job_id, real = sent(), arrivals.records.get

    async def get(client, job_id):
        if jobs.get(job_id).status == "failed":
            await asyncio.to_thread(jobs.restart, job_id, "transcribe")
            job = await real(client, job_id)
            await asyncio.to_thread(give_transcript, job_id)
            await listening(redis_url)  # again: so it has heard
            return job
        return await real(client, job_id)

    monkeypatch.setattr(arrivals.records, "get", get)

    async def play(room):
        waiting = asyncio.create_task(room.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(jobs.fail, job_id, "transcribe", JobError(ErrorCode.TRANSCRIBE_CRASHED, "it crashed"))
        return await waiting

    assert run(redis_url, play).transcript == TRANSCRIPT


def test_however_many_wait_one_connection_does(redis_url):
    many = [sent() for _ in range(50)]

    async def play(room):
        waiting = [asyncio.create_task(room.transcribed(job_id)) for job_id in many]
        await listening(redis_url)
        async with aioredis.Redis.from_url(redis_url) as client:
            blocked = (await client.info("clients"))["blocked_clients"]
        for job_id in many:
            await asyncio.to_thread(give_transcript, job_id)
        return blocked, await asyncio.gather(*waiting)

    blocked, ended = run(redis_url, play)
    assert blocked == 1
    assert [job.id for job in ended] == many


def test_a_deleted_job_is_waited_for_no_longer(redis_url, monkeypatch):
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)
    job_id = sent()

    async def play(room):
        waiting = asyncio.create_task(room.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(jobs.delete, job_id)
        await waiting

    with pytest.raises(UnknownJob):
        run(redis_url, play)


def test_an_end_that_nothing_tells_of_is_found(redis_url, monkeypatch):
    """A worker of an earlier version ended it, or the stream was evicted."""
    monkeypatch.setattr(arrivals, "LOOK", 0.05)
    monkeypatch.setattr(arrivals, "BLOCK", 50)
    job_id = sent()

    async def play(room):
        waiting = asyncio.create_task(room.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(store.redis.hset, keys.record(job_id), "status", "cancelled")
        return await waiting

    assert run(redis_url, play).status == "cancelled"


def break_off(redis_url):
    """End the connection that listens, as a Redis does that is started anew."""
    admin = redis.Redis.from_url(redis_url)
    for found in admin.client_list():
        if found["cmd"] == "xread":
            admin.client_kill_filter(_id=found["id"])


def test_a_redis_that_comes_back_is_waited_for(redis_url, monkeypatch):
    monkeypatch.setattr(arrivals, "LOOK", 2 * SOON)
    monkeypatch.setattr(arrivals, "PAUSE", 0.05)
    many = [sent() for _ in range(3)]

    async def play(room):
        waiting = [asyncio.create_task(room.transcribed(job_id)) for job_id in many]
        await listening(redis_url)
        break_off(redis_url)
        for job_id in many:
            await asyncio.to_thread(give_transcript, job_id)
        return await asyncio.gather(*waiting)

    ended = run(redis_url, play, retry=Retry(NoBackoff(), 0))
    assert [job.id for job in ended] == many


def test_where_redis_stays_away_each_who_waits_is_told(redis_url, monkeypatch):
    monkeypatch.setattr(arrivals, "PATIENCE", 0.0)
    many = [sent() for _ in range(3)]

    async def play(room):
        waiting = [asyncio.create_task(room.transcribed(job_id)) for job_id in many]
        await listening(redis_url)
        break_off(redis_url)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        again = asyncio.create_task(room.transcribed(many[0]))
        await listening(redis_url)
        await asyncio.to_thread(give_transcript, many[0])
        return answers, await again

    answers, job = run(redis_url, play, retry=Retry(NoBackoff(), 0))
    assert all(isinstance(answer, redis.RedisError) for answer in answers), answers
    assert job.transcript == TRANSCRIPT


def test_where_nobody_waits_nothing_is_asked(redis_url, monkeypatch):
    monkeypatch.setattr(arrivals, "BLOCK", 50)
    job_id = sent()

    async def play(room):
        give_transcript(job_id)
        await room.transcribed(job_id)
        await asyncio.wait({room._listening})

    run(redis_url, play)


def test_only_the_last_thousand_or_so_are_kept():
    for _ in range(1300):
        give_transcript(sent(), last=True)
    assert 1000 <= store.redis.xlen(keys.ARRIVALS) <= 1200


def test_a_closed_room_listens_no_longer(redis_url):
    async def play(room):
        waiting = asyncio.create_task(room.transcribed(sent()))
        await listening(redis_url)
        await room.close()
        async with aioredis.Redis.from_url(redis_url) as client:
            while (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - Redis tells nobody of it
                await asyncio.sleep(0.01)
        waiting.cancel()

    run(redis_url, play)
