"""What lists of jobs are made of: outlines of records and the beginnings of transcripts, in few round trips."""

import asyncio
import uuid

import pytest
from live import jobs, store
from redis import asyncio as aioredis

from voicemill.options import Options
from voicemill.store.scripts import Script

pytestmark = pytest.mark.usefixtures("redis_url")


def sent(text=None, **options):
    job_id = str(uuid.uuid4())
    jobs.create(job_id, "https://x.example/voice.ogg", Options(**options))
    if text is not None:
        jobs.finish(job_id, "transcribe", {"transcript": {"text": text, "segments": []}}, following=None)
    return job_id


def test_outlines_have_what_a_list_shows_and_none_for_jobs_that_are_gone():
    done, queued, deleted = sent("Hello.", metadata={"filename": "a.ogg"}), sent(), sent()
    jobs.delete(deleted)

    first, second, *gone = jobs.outlines([done, queued, deleted, "unknown"])

    assert (first.id, first.status, first.metadata) == (done, "done", {"filename": "a.ogg"})
    assert first.finished_at == jobs.get(done).finished_at
    assert first.transcript is None
    assert (second.status, second.source) == ("queued", "https://x.example/voice.ogg")
    assert gone == [None, None]


def test_openings_are_cut_and_left_empty_for_what_is_missing_or_too_large():
    ids = [sent("Hello there."), sent(), sent("x" * 2000), "unknown"]

    assert jobs.openings(ids, 5, largest=1000) == ["Hello", "", "", ""]


def test_a_list_of_any_length_takes_three_round_trips():
    ids = [sent("Hello.") for _ in range(20)]
    before = store.redis.info("stats")["total_reads_processed"]

    jobs.outlines(ids)
    jobs.openings(ids, 5, largest=1000)

    assert store.redis.info("stats")["total_reads_processed"] - before - 1 <= 3


def test_an_empty_list_asks_for_nothing():
    assert (jobs.outlines([]), jobs.openings([], 5, largest=1000)) == ([], [])


def test_a_script_runs_on_an_asyncio_client_that_has_never_seen_it(redis_url):
    text = f"return {{KEYS[1], ARGV[1]}} -- {uuid.uuid4()}"
    digest = store.redis.script_load(text)
    store.redis.script_flush()

    async def run():
        async with aioredis.Redis.from_url(redis_url) as client:
            return [await Script(text, digest).run_async(client, ["k"], 7) for _ in range(2)]

    assert asyncio.run(run()) == [[b"k", b"7"]] * 2
