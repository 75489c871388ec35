"""The decode stage as the queue sees it: any voice message in, 16 kHz mono audio into the handoff store."""

from __future__ import annotations

from voicemill.store.jobs import UPLOAD
from voicemill.job import Job
from voicemill.errors import ErrorCode, JobError

from functools import partial
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.middleware import CurrentMessage

from actors import broker

if TYPE_CHECKING:

BROKER = broker.for_process("decode")


@dramatiq.actor(queue_name="decode", actor_name="decode", broker=BROKER, throws=broker.EXPECTED)
def decode(source: str = "", **options: Any) -> None:
    """Decode one message. Call `decode.send(source, language=…, …)`; the options are those of voicemill/options.py."""
    from actors import tracking  # noqa: PLC0415 - a backend that only sends pays for none of these
    from pipeline import dedupe as duplicates  # noqa: PLC0415

    message = CurrentMessage.get_current_message()
    assert message is not None, "the worker's broker has the middleware"  # noqa: S101
    job_id = message.message_id
    job = tracking.open_sent(job_id, (source,), options)
    if job is None:
        return
    decoded = job.stages["decode"].finished_at is not None and (job.transcript is not None or store.audio.exists(job_id))
    if not decoded:
        if job.status == "decoded":  # by a worker that died before it could say so, and the audio is gone
            store.jobs.restart(job_id, "decode", expired=True)
        if not store.jobs.begin(job_id, "decode", tracking.WORKER):
            return
        try:
            audio = _audio(job)
        except duplicates.Found as found:
            _take_over(job, found.job)
            return
        if not store.jobs.finish(job_id, "decode", {"audio": audio}):
            tracking.drop_audio(job_id)
            return
    broker.enqueue_stage(BROKER, "transcribe", job_id)


def _audio(job: Job) -> dict[str, Any]:
    """Fetch and convert one message, leave its audio in the handoff store, and return what is to be known of it.

    Raises:
        Found: an earlier job had the same message, and its transcript will do.
        JobError: there is no audio to be had, or no place for it.
    """
    from config import settings  # noqa: PLC0415
    from pipeline import dedupe as duplicates  # noqa: PLC0415
    from pipeline.decode import decode as work  # noqa: PLC0415
    from pipeline.decode.workspace import workspace  # noqa: PLC0415

    look = partial(duplicates.look, job) if job.options["dedupe"] else None
    source = store.jobs.raw_source(job.id)
    with workspace() as folder:
        try:
            made = work(source, folder, settings.get(), stream=job.options["stream"], on_fetched=look)
        except JobError as error:
            if error.code == "source_not_found" and source.startswith(UPLOAD) and job.redecodes:
                raise JobError(ErrorCode.HANDOFF_EXPIRED, "the audio expired before its turn, and so did the upload") from None
            raise
        try:
            store.audio.put(job.id, made.path)
        except JobError as error:
            if error.code == "handoff_full":
                store.audio.demand_space(made.path.stat().st_size)
            raise
    return made.audio | {"warnings": made.warnings}


def _take_over(job: Job, twin: Job) -> None:
    """Give a job the transcript of an earlier one, which had the same bytes and options."""

    last = not job.options["enrich"]
    audio = (twin.audio or {}) | {"duplicate_of": twin.id}
    if store.jobs.take_over(job.id, audio, twin.transcript or {}, last=last) and not last:
        broker.enqueue_stage(BROKER, "enrich", job.id)


if broker.in_worker():
    from pipeline.decode.workspace import sweep

    sweep()  # what a killed worker left behind
