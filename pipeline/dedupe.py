"""Reuse of transcripts: a job with `dedupe=True` gets that of an earlier job with the same bytes and options."""

from __future__ import annotations

import hashlib
import json
from typing import cast

from config.settings import SHAPING, Settings
from voicemill import options
from voicemill.errors import UnknownJob
from voicemill.job import Job
from voicemill.store import Store, keys


class Duplicate(Exception):
    """The audio was transcribed before; `job` has the transcript."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


def remember(store: Store, settings: Settings, job: Job, fingerprint: str) -> None:
    """Note that a job's transcript is that of audio with this fingerprint and of options like its own."""
    store.redis.set(_key(settings, job, fingerprint), job.id, px=store.config.result_ttl_ms)


def check(store: Store, settings: Settings, job: Job, fingerprint: str) -> None:
    """Look for an earlier transcript.

    A transcript that a CPU made in place of a GPU is not reused while a GPU is at work.

    Raises:
        Duplicate: there is one.
    """
    earlier = cast("bytes | None", store.redis.get(_key(settings, job, fingerprint)))
    if earlier is None:
        return
    try:
        twin = store.jobs.get(earlier.decode())
    except UnknownJob:
        return
    if twin.transcript is not None and not (twin.transcript.degraded is not None and _gpu_at_work(store)):
        raise Duplicate(twin)


def _gpu_at_work(store: Store) -> bool:
    return any(worker.gpus for worker in store.workers.alive() if "transcribe" in worker.stages)


def _key(settings: Settings, job: Job, fingerprint: str) -> str:
    """Return the key for the fingerprint, and the options and settings that shape a transcript.

    Decode workers need the same settings as transcribe workers, or nothing is found.
    """
    shaping = [
        fingerprint,
        {name: getattr(job.options, name) for name in options.SHAPING},
        {name: getattr(settings, name) for name in SHAPING},
    ]
    return keys.fingerprint(hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest())
