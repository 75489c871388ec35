"""The decode stage: any voice message in, 16 kHz mono audio into the handoff store."""

from __future__ import annotations

from functools import partial

from pipeline import dedupe
from pipeline.decode import decode
from pipeline.decode.workspace import workspace
from pipeline.stage import Context, Result
from voicemill.errors import ErrorCode, JobError
from voicemill.job import Audio, Job
from voicemill.store.jobs import UPLOAD


def run(job: Job, context: Context) -> Result:
    """Fetch and convert one message, and leave its audio in the handoff store.

    Raises:
        JobError: there is no audio to be had, or no room for it.
    """
    store, settings = context.store, context.settings
    source = store.jobs.raw_source(job.id)
    check = partial(dedupe.check, store, settings, job) if job.options.dedupe else None
    with workspace() as folder:
        try:
            made = decode(source, folder, settings, stream=job.options.stream, on_fetched=check, uploads=store.audio)
        except dedupe.Duplicate as found:
            return _reused(found.job)
        except JobError as error:
            if error.code is ErrorCode.SOURCE_NOT_FOUND and source.startswith(UPLOAD) and job.redecodes:
                message = "the audio expired before its turn, and so did the upload"
                raise JobError(ErrorCode.HANDOFF_EXPIRED, message) from None
            raise
        try:
            store.audio.put(job.id, made.path)
        except JobError as error:
            if error.code is ErrorCode.HANDOFF_FULL:
                store.audio.demand_space(made.path.stat().st_size)
            raise
    return Result({"audio": made.audio | {"warnings": made.warnings}})


def _reused(twin: Job) -> Result:
    audio = (twin.audio or Audio()).as_dict() | {"duplicate_of": twin.id}
    transcript = twin.transcript.as_dict() if twin.transcript is not None else {}
    return Result({"audio": audio, "transcript": transcript}, through="transcribe")
