"""The asyncio twins of the jobs calls, against a real Redis."""

import asyncio

import pytest
from live import jobs

from voicemill import aio as aiojobs
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.options import Options

pytestmark = pytest.mark.usefixtures("redis_url")


def test_many_jobs_are_awaited_in_one_thread_and_each_ends_as_it_did():
    names = [f"job-{number}" for number in range(20)]
    for name in names:
        jobs.create(name, "voice.ogg", Options())

    async def backend():
        waiting = [asyncio.create_task(aiojobs.wait(name, timeout=60)) for name in names]
        for name in names:
            await asyncio.to_thread(jobs.fail, name, "decode", JobError(ErrorCode.UNDECODABLE, name))
        return await asyncio.gather(*waiting)

    assert [job.error.message for job in asyncio.run(backend())] == names


def test_the_transcript_can_be_awaited_alone():
    jobs.create("j", "voice.ogg", Options())
    jobs.finish("j", "transcribe", {"transcript": {"text": "Hello."}})

    assert asyncio.run(aiojobs.wait("j", timeout=5, until="transcribed")).transcript == {"text": "Hello."}


def test_what_no_job_comes_to_cannot_be_awaited():
    jobs.create("j", "voice.ogg", Options())

    with pytest.raises(ValueError, match="'done' or 'transcribed'"):
        asyncio.run(aiojobs.wait("j", timeout=5, until="transcript"))


def test_events_and_cancel():
    jobs.create("j", "voice.ogg", Options())

    async def backend():
        assert await aiojobs.cancel("j")
        seen = [event.status async for event in aiojobs.events("j")]
        return seen, await aiojobs.get("j")

    seen, job = asyncio.run(backend())
    assert seen == ["queued", "cancelled"]
    assert job.status == "cancelled"


def test_a_job_that_was_tried_again_is_awaited_to_its_last_end():
    jobs.create("j", "voice.ogg", Options())
    jobs.fail("j", "decode", JobError(ErrorCode.INTERNAL, "x"))
    jobs.restart("j", "decode")

    async def backend():
        waiting = asyncio.create_task(aiojobs.wait("j", timeout=60))
        await asyncio.to_thread(jobs.finish, "j", "transcribe", {"transcript": {"text": "Hello."}}, last=True)
        return await waiting

    assert asyncio.run(backend()).status == "done"


def test_waiting_gives_up_after_its_time():
    jobs.create("j", "voice.ogg", Options())

    with pytest.raises(TimeoutError, match=r"after 0.1 s"):
        asyncio.run(aiojobs.wait("j", timeout=0.1))


@pytest.mark.parametrize("ask", [aiojobs.get, aiojobs.wait, aiojobs.cancel, aiojobs.delete])
def test_an_unknown_job_is_said_to_be_unknown(ask):
    with pytest.raises(UnknownJob):
        asyncio.run(ask("nobody"))
