"""`AsyncClient`, the client for asyncio, against a real Redis."""

import asyncio

import pytest
from live import jobs

from voicemill import AsyncClient, ErrorCode, JobError, Options, Refused, UnknownJob

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


@pytest.mark.parametrize("method", ["get", "wait", "cancel", "delete", "retry"])
def test_an_unknown_job_is_reported_as_unknown(run, method):
    with pytest.raises(UnknownJob):
        run(lambda client: getattr(client, method)("nobody"))
