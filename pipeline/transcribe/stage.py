"""The transcribe stage: audio from the handoff store in, the transcript into the job's record."""

from __future__ import annotations

from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import redis

from config.settings import Settings
from pipeline import dedupe
from pipeline.stage import Context, Result
from pipeline.transcribe.options import DecodingOptions
from voicemill.errors import ErrorCode, JobError
from voicemill.job import Job

if TYPE_CHECKING:
    from pipeline.transcribe import Engine, Transcript

WATCH = 1.0  # seconds between checks whether the engine is still alive, and a job still wanted


@dataclass(frozen=True, slots=True)
class Transcribing:
    """The stage's work on an engine, whose batches the windows of all running jobs share."""

    engine: Engine

    def __call__(self, job: Job, context: Context) -> Result | None:
        """Transcribe one message.

        Raises:
            JobError: `handoff_expired`: its audio is gone; `gpu_unfit`, or what the engine says of the message.
        """
        store, settings = context.store, context.settings
        data = b"".join(store.audio.read(job.id))
        transcript = self._transcribe(job, data, context)
        if transcript is None:
            return None
        fingerprint = job.audio.sha256 if job.audio is not None else None
        remember = None if fingerprint is None else partial(dedupe.remember, store, settings, job, fingerprint)
        return Result({"transcript": transcript.as_dict()}, afterwards=remember)

    def _transcribe(self, job: Job, data: bytes, context: Context) -> Transcript | None:
        """Return the transcript; None: the job has ended meanwhile, and its waiting windows are dropped."""
        from pipeline.transcribe.audio import load  # noqa: PLC0415 - heavy: the worker's own, not the queue's

        audio = load(data)
        del data
        future = self.engine.submit(audio, options(job, context.settings), context.progress)
        while not futures.wait([future], timeout=WATCH).done:
            if not self.engine.alive:
                raise JobError(ErrorCode.GPU_UNFIT, "no slot of the engine is left")
            with suppress(redis.RedisError):  # then it is seen the next time
                if not context.wanted() and future.cancel():
                    return None
        return future.result()


def options(job: Job, settings: Settings) -> DecodingOptions:
    """Return how the engine is to transcribe a job."""
    chosen = job.options
    return DecodingOptions(
        language=chosen.language,
        task=chosen.task,
        prompt=chosen.prompt,
        hotwords=chosen.hotwords,
        word_timestamps=chosen.word_timestamps,
        beam_size=settings.whisper_beam_size,
        max_duration=settings.max_duration,
    )
