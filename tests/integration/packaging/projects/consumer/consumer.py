"""A backend that is type-checked: what it reads of a job has types, and no `Any`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_type

from voicemill import AsyncClient, Client, Event, Job, JobError, Refused, SystemStatus, Transcript, decode, webhooks

if TYPE_CHECKING:
    from voicemill import Segment


def send(source: str) -> str:
    try:
        message = decode.send(source, language="ko")
    except Refused as error:
        return error.code.remedy
    return message.message_id


def start_of(job: Job) -> float | None:
    transcript = job.transcript
    assert_type(transcript, Transcript | None)
    if transcript is None or not transcript.segments:
        return None
    first: Segment = transcript.segments[0]
    assert_type(first.start, float)
    assert_type(transcript.srt(), str)
    return first.start


def describe(job: Job) -> list[str]:
    lines = [job.status, str(job.options.language), str(job.audio and job.audio.duration)]
    if job.error is not None:
        lines.append(f"{job.error.code}: {job.error.remedy}")
    if job.enrichment is not None:
        lines.append(job.enrichment.title or "")
    return lines


def receive(body: bytes, headers: Mapping[str, str], secret: str) -> str:
    event = webhooks.verify(body, headers, secret)
    return str(event["type"])


def follow(client: Client, data: bytes) -> Job:
    job = client.send_file(data, "voice.ogg", language="ko", word_timestamps=True)
    for event in client.events(job.id):
        assert_type(event, Event)
    jobs = client.list(status="done", limit=10)
    assert_type(jobs, list[Job])
    assert_type(client.status(), SystemStatus)
    try:
        return client.wait(job.id, timeout=60)
    except JobError:
        client.cancel(job.id)
        raise


async def follow_async(url: str) -> Job:
    async with AsyncClient(url) as client:
        job = await client.send("https://example.com/voice.ogg")
        async for event in client.events(job.id):
            assert_type(event, Event)
        return await client.wait(job.id)


if __name__ == "__main__":
    with Client("redis://127.0.0.1:6379/0") as voicemill:
        print(describe(follow(voicemill, b"")), start_of(asyncio.run(follow_async("redis://127.0.0.1:6379/1"))))
