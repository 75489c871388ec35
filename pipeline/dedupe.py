"""The same message again: who sent it with `dedupe=True` gets the earlier transcript, and no GPU works for it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from config import settings
from voicemill.errors import UnknownJob
from voicemill.job import Job
from voicemill.store import keys

WORDS = ("language", "task", "prompt", "hotwords", "word_timestamps", "stream")  # options that shape a transcript
# Settings that do; decode workers need them as transcribe workers have them, or nothing is found.
SETTINGS = ("whisper_model", "whisper_beam_size", "normalize_loudness")


class Found(Exception):
    """The message was transcribed before; `job` has the transcript."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


def remember(job: Job, fingerprint: str) -> None:
    """Note that a job's transcript is that of the message with this fingerprint and of options like its own."""
    store.redis.set(_key(fingerprint, job.options), job.id, px=store.config.result_ttl_ms)


def look(job: Job, fingerprint: str) -> None:
    """Go on where nobody sent these bytes with such options before, or their transcript is gone.

    Raises:
        Found: there is a transcript.
    """
    earlier = cast("bytes | None", store.redis.get(_key(fingerprint, job.options)))
    if earlier is None:
        return
    try:
        twin = store.jobs.get(earlier.decode())
    except UnknownJob:
        return
    if twin.transcript is not None and not (twin.transcript.get("degraded") and _gpu_at_work()):
        raise Found(twin)


def _gpu_at_work() -> bool:
    """Tell whether a worker has a GPU now: then what a CPU wrote in its place is not handed on."""
    return any(worker.gpus for worker in store.workers.alive() if "transcribe" in worker.stages)


def _key(fingerprint: str, options: dict[str, Any]) -> str:
    chosen = settings.get()
    shaping = json.dumps(
        [
            fingerprint,
            *(options.get(name) for name in WORDS),
            *(getattr(chosen, name) for name in SETTINGS),
        ]
    )
    return f"{keys.NAMESPACE}:message:{hashlib.sha256(shaping.encode()).hexdigest()}"
