"""The decode stage as the queue sees it: any voice message in, 16 kHz mono audio into the handoff store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage

from actors import broker
from pipeline.errors import JobError

BROKER = broker.for_process("decode")


@dramatiq.actor(queue_name="decode", actor_name="decode", broker=BROKER, throws=JobError)
def decode(source: str = "", **options: Any) -> None:
    """Decode one message. Call `decode.send(source, language=…, …)`; the options are those of pipeline/options.py."""
    from actors import tracking  # noqa: PLC0415 - a backend that only sends pays for none of these
    from config import settings  # noqa: PLC0415
    from pipeline import handoff, jobs  # noqa: PLC0415
    from pipeline.decode import decode as work  # noqa: PLC0415

    message = CurrentMessage.get_current_message()
    assert message is not None, "the worker's broker has the middleware"  # noqa: S101
    job_id = message.message_id
    job = tracking.open_sent(job_id, (source,), options)
    if job is None:
        return
    decoded = job.stages["decode"].finished_at is not None and (job.transcript is not None or handoff.exists(job_id))
    if not decoded:
        if not jobs.begin(job_id, "decode", tracking.WORKER):
            return
        with tracking.workspace() as folder:
            made = work(jobs.raw_source(job_id), Path(folder), settings.get(), stream=job.options["stream"])
            handoff.put(job_id, made.path)
        if not jobs.finish(job_id, "decode", {"audio": made.audio | {"warnings": made.warnings}}):
            tracking.drop_audio(job_id)
            return
    broker.enqueue_stage(BROKER, "transcribe", job_id)
