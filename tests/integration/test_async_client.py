"""`AsyncClient`, the client for asyncio, against a real Redis."""

import asyncio
import inspect
import time

import pytest
from live import jobs, queues, store

from voicemill import AsyncClient, Client, ErrorCode, JobError, Options, Refused, UnknownJob
from voicemill.store import keys
from voicemill.store.queue import letter

TRANSCRIPT = {"text": "Hello.", "segments": [], "no_speech": False}


@pytest.fixture
def run(redis_url):
    """Run a coroutine function that gets a client."""

    def call(body):
        async def main():
            async with AsyncClient(redis_url) as client:
                return await body(client)

        return asyncio.run(main())

    return call


def created(job_id="j"):
    jobs.create(job_id, "voice.ogg", Options())
    return job_id


def test_jobs_are_sent_uploaded_listed_and_read(run):
    async def backend(client):
        first = await client.send("https://example.com/voice.ogg", language="ko")
        second = await client.send_file(b"OggS", "monday.ogg")
        with pytest.raises(Refused):
            await client.send("https://example.com/voice.ogg", language="klingon")
        status = await client.status()
        return first, second, await client.list(), await client.get(first.id), status

    first, second, listed, read, status = run(backend)

    assert (first, second.metadata) == (read, {"filename": "monday.ogg"})
    assert {job.id for job in listed} == {first.id, second.id}
    assert status.unfinished == 2


def test_many_jobs_are_awaited_in_one_thread_and_each_ends_as_it_did(run):
    names = [created(f"job-{number}") for number in range(20)]

    async def backend(client):
        waiting = [asyncio.create_task(client.wait(name, timeout=60)) for name in names]
        for name in names:
            await asyncio.to_thread(jobs.fail, name, "decode", JobError(ErrorCode.UNDECODABLE, name))
        return await asyncio.gather(*waiting)

    assert [job.error.message for job in run(backend)] == names


def test_the_transcript_can_be_awaited_alone(run):
    jobs.finish(created(), "transcribe", {"transcript": TRANSCRIPT})

    assert run(lambda client: client.wait("j", timeout=5, until="transcribed")).transcript.text == "Hello."


def test_a_status_that_cannot_be_awaited_is_refused(run):
    created()

    with pytest.raises(ValueError, match="'done' or 'transcribed'"):
        run(lambda client: client.wait("j", timeout=5, until="transcript"))


def test_events_end_with_the_job(run):
    created()

    async def backend(client):
        assert await client.cancel("j")
        seen = [event.status async for event in client.events("j")]
        return seen, await client.get("j")

    seen, job = run(backend)
    assert seen == ["queued", "cancelled"]
    assert job.status == "cancelled"


def test_a_retried_job_is_awaited_to_its_last_end(run):
    jobs.fail(created(), "decode", JobError(ErrorCode.INTERNAL, "x"))
    jobs.restart("j", "decode")

    async def backend(client):
        waiting = asyncio.create_task(client.wait("j", timeout=60))
        await asyncio.to_thread(jobs.finish, "j", "enrich", {"transcript": TRANSCRIPT})
        return await waiting

    assert run(backend).status == "done"


def test_waiting_ends_after_the_timeout(run):
    created()

    with pytest.raises(TimeoutError, match=r"after 0.1 s"):
        run(lambda client: client.wait("j", timeout=0.1))


def test_a_timeout_of_events_does_not_cancel_the_code_that_reads_them(run):
    created()
    seen = []

    async def backend(client):
        async for event in client.events("j", timeout=0.2):
            await asyncio.sleep(0.4)
            seen.append(event.status)

    with pytest.raises(TimeoutError, match=r"job j has not ended after 0.2 s"):
        run(backend)
    assert seen == ["queued"]


@pytest.mark.parametrize("method", ["get", "wait", "cancel", "delete", "retry"])
def test_an_unknown_job_is_reported_as_unknown(run, method):
    began = time.monotonic()

    with pytest.raises(UnknownJob):
        run(lambda client: getattr(client, method)("nobody"))
    assert time.monotonic() - began < 1.5, "without waiting for an event"


def test_the_events_of_an_unknown_job_are_reported_as_unknown(run):
    async def backend(client):
        return [event async for event in client.events("nobody")]

    began = time.monotonic()
    with pytest.raises(UnknownJob):
        run(backend)
    assert time.monotonic() - began < 1.5


def test_events_are_yielded_as_they_happen(run):
    created()

    async def backend(client):
        seen = []
        async for event in client.events("j", timeout=30):
            seen.append(event.status)
            if event.status == "queued":
                await asyncio.to_thread(jobs.finish, "j", "transcribe", {"transcript": TRANSCRIPT}, following=None)
        return seen

    assert run(backend) == ["queued", "done"]


def test_an_upload_is_a_source_and_pages_follow_one_another(run):
    async def backend(client):
        source = await client.upload(b"OggS", "monday.ogg")
        sent = [await client.send(source) for _ in range(5)]
        first = await client.list(limit=3)
        second = await client.list("queued", limit=3, before=first[-1].id)
        return sent, first + second

    sent, listed = run(backend)
    assert [job.metadata for job in sent] == [{"filename": "monday.ogg"}] * 5
    assert [job.id for job in listed] == [job.id for job in reversed(sent)]


def test_a_failed_job_is_retried_and_then_deleted(run):
    message = letter("decode", created())
    jobs.fail("j", "decode", JobError(ErrorCode.UNDECODABLE, "no"))
    store.redis.hset(keys.queue("decode", ".XQ.msgs"), message.redis_id, message.body)
    store.redis.zadd(keys.queue("decode", ".XQ"), {message.redis_id: 1})

    async def backend(client):
        retried = await client.retry("j")
        await client.delete("j")
        return retried

    assert run(backend).status == "queued"
    assert queues.depths()["decode"].dead == 0
    with pytest.raises(UnknownJob):
        jobs.get("j")


def test_it_has_the_methods_of_the_synchronous_client_with_the_same_arguments():
    def methods(kind):
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in found if name[0] != "_"}

    assert methods(AsyncClient) == methods(Client)
