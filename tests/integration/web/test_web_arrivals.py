"""Waiting for transcripts: notified at once, over one connection however many wait, and never for ever."""

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
from web import records
from web.arrivals import Arrivals

pytestmark = pytest.mark.usefixtures("redis_url")
SOON = 30.0  # seconds that stand for "never"
RARELY = {"check_every": 2 * SOON}  # only notices count
TEXT = "Hello."
TRANSCRIPT = {"text": TEXT, "segments": []}


def sent(enrich=True):
    job_id = str(uuid.uuid4())
    jobs.create(job_id, "upload:1", Options(enrich=enrich))
    return job_id


def give_transcript(job_id, *, last=False):
    jobs.begin(job_id, "transcribe", "test:1")
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None if last else "enrich")


def run(redis_url, play, options=None, **client):
    """Await `play` of an `Arrivals` with these options on a client of its own, for SOON at most."""

    async def whole():
        async with aioredis.Redis.from_url(redis_url, **client) as connected, asyncio.timeout(SOON):
            arrivals = Arrivals(connected, **(options or {}))
            try:
                return await play(arrivals)
            finally:
                await arrivals.close()

    return asyncio.run(whole())


async def listening(redis_url):
    """Wait until a connection blocks in Redis."""
    async with aioredis.Redis.from_url(redis_url) as client:
        while not (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - Redis does not notify of it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "end",
    [
        give_transcript,
        lambda job: give_transcript(job, last=True),
        lambda job: jobs.fail(job, "decode", JobError(ErrorCode.UNDECODABLE, "it is no audio")),
        lambda job: jobs.cancel(job),  # noqa: PLW0108 - the store is known only when the test runs
    ],
    ids=["transcribed", "done", "failed", "cancelled"],
)
def test_every_kind_of_end_ends_the_wait(redis_url, end):
    async def play(arrivals):
        waiting = asyncio.create_task(arrivals.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(end, job_id)
        return await waiting

    job_id = sent()
    assert reached(run(redis_url, play, RARELY).status, "transcribed")


def test_a_job_that_has_ended_is_returned_at_once(redis_url):
    job_id = sent()
    give_transcript(job_id)
    assert run(redis_url, lambda arrivals: arrivals.transcribed(job_id), RARELY).transcript.text == TEXT


def test_a_job_that_ends_while_nobody_listens_is_noticed_later(redis_url):
    first, second = sent(), sent()

    async def play(arrivals):
        give_transcript(first)
        await arrivals.transcribed(first)
        await arrivals.close()
        await asyncio.to_thread(give_transcript, second)
        return await arrivals.transcribed(second)

    assert run(redis_url, play, RARELY).transcript.text == TEXT


def test_a_job_that_ends_before_it_is_waited_for_is_returned_at_once(redis_url):
    """Its sender may be slower than the job. Of jobs that nobody ever waits for only the last are remembered."""
    early, later = [sent() for _ in range(4)], sent()

    async def play(arrivals):
        waiting = asyncio.create_task(arrivals.transcribed(later))
        await listening(redis_url)
        for job_id in (*early, later):
            await asyncio.to_thread(give_transcript, job_id)
        await waiting  # it was the last to end, so the others were noticed
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(arrivals.transcribed(early[0]), 0.1)
        return [await arrivals.transcribed(job_id) for job_id in early[1:]]

    assert [job.transcript.text for job in run(redis_url, play, RARELY | {"remembered": 3})] == [TEXT] * 3


def test_a_job_that_is_retried_after_its_end_is_waited_for_again(redis_url):
    """It failed and was retried before its record was read, and it ended again while the record was being read."""
    job_id = sent()

    async def read(client, job_id):
        if jobs.get(job_id).status == "failed":
            await asyncio.to_thread(jobs.restart, job_id, "transcribe")
            job = await records.get(client, job_id)
            await asyncio.to_thread(give_transcript, job_id)
            await listening(redis_url)  # again, so the notice was read
            return job
        return await records.get(client, job_id)

    async def play(arrivals):
        waiting = asyncio.create_task(arrivals.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(jobs.fail, job_id, "transcribe", JobError(ErrorCode.TRANSCRIBE_CRASHED, "it crashed"))
        return await waiting

    assert run(redis_url, play, RARELY | {"read": read}).transcript.text == TEXT


def test_any_number_of_waiting_requests_shares_one_connection(redis_url):
    many = [sent() for _ in range(50)]

    async def play(arrivals):
        waiting = [asyncio.create_task(arrivals.transcribed(job_id)) for job_id in many]
        await listening(redis_url)
        async with aioredis.Redis.from_url(redis_url) as client:
            blocked = (await client.info("clients"))["blocked_clients"]
        for job_id in many:
            await asyncio.to_thread(give_transcript, job_id)
        return blocked, await asyncio.gather(*waiting)

    blocked, ended = run(redis_url, play)
    assert blocked == 1
    assert [job.id for job in ended] == many


def test_deleting_a_job_ends_the_wait(redis_url):
    job_id = sent()

    async def play(arrivals):
        waiting = asyncio.create_task(arrivals.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(jobs.delete, job_id)
        await waiting

    with pytest.raises(UnknownJob):
        run(redis_url, play, RARELY)


def test_an_end_without_a_notice_is_found(redis_url):
    """A worker of an earlier version ended the job, or the stream was evicted."""
    job_id = sent()

    async def play(arrivals):
        waiting = asyncio.create_task(arrivals.transcribed(job_id))
        await listening(redis_url)
        await asyncio.to_thread(store.redis.hset, keys.record(job_id), "status", "cancelled")
        return await waiting

    assert run(redis_url, play, {"check_every": 0.05, "block": 50}).status == "cancelled"


def disconnect(redis_url):
    """Close the connection that listens, as a restart of Redis does."""
    admin = redis.Redis.from_url(redis_url)
    for found in admin.client_list():
        if found["cmd"] == "xread":
            admin.client_kill_filter(_id=found["id"])


def test_a_wait_survives_a_restart_of_redis(redis_url):
    many = [sent() for _ in range(3)]

    async def play(arrivals):
        waiting = [asyncio.create_task(arrivals.transcribed(job_id)) for job_id in many]
        await listening(redis_url)
        disconnect(redis_url)
        for job_id in many:
            await asyncio.to_thread(give_transcript, job_id)
        return await asyncio.gather(*waiting)

    ended = run(redis_url, play, RARELY | {"retry_every": 0.05}, retry=Retry(NoBackoff(), 0))
    assert [job.id for job in ended] == many


def test_all_waiting_requests_fail_if_redis_stays_away(redis_url):
    many = [sent() for _ in range(3)]

    async def play(arrivals):
        waiting = [asyncio.create_task(arrivals.transcribed(job_id)) for job_id in many]
        await listening(redis_url)
        disconnect(redis_url)
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        again = asyncio.create_task(arrivals.transcribed(many[0]))
        await listening(redis_url)
        await asyncio.to_thread(give_transcript, many[0])
        return answers, await again

    answers, job = run(redis_url, play, {"give_up_after": 0.0}, retry=Retry(NoBackoff(), 0))
    assert all(isinstance(answer, redis.RedisError) for answer in answers), answers
    assert job.transcript.text == TEXT


def test_listening_stops_when_nobody_waits(redis_url):
    job_id = sent()

    async def play(arrivals):
        give_transcript(job_id)
        await arrivals.transcribed(job_id)
        await asyncio.wait({arrivals._listening})

    run(redis_url, play, {"block": 50})


def test_the_stream_keeps_about_a_thousand_notices():
    for _ in range(1300):
        give_transcript(sent(), last=True)
    assert 1000 <= store.redis.xlen(keys.ARRIVALS) <= 1200


def test_closing_ends_the_connection(redis_url):
    async def play(arrivals):
        waiting = asyncio.create_task(arrivals.transcribed(sent()))
        await listening(redis_url)
        await arrivals.close()
        async with aioredis.Redis.from_url(redis_url) as client:
            while (await client.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - Redis does not notify of it
                await asyncio.sleep(0.01)
        waiting.cancel()

    run(redis_url, play)
