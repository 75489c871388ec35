"""Whose message a worker is busy with: the job id on every log line, and the job that a message belongs to."""

from __future__ import annotations

import os
import socket
from typing import Any

import structlog
from dramatiq import Broker, Worker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from voicemill.admission import admit
from voicemill.errors import JobError, UnknownJob
from voicemill.job import Job
from voicemill.options import Options, is_text

WORKER = f"{socket.gethostname()}:{os.getpid()}"

log = structlog.get_logger(__name__)


class Tracking(Middleware):
    """Binds job, stage and worker to the log lines of a message's thread, Dramatiq's own lines included."""

    def after_worker_boot(self, broker: Broker, _worker: Worker) -> None:
        """Say that the process takes messages from now on."""
        for stage in broker.get_declared_actors():
            log.info("Stage ready", stage=stage, worker=WORKER)

    def before_process_message(self, _broker: Broker, message: MessageProxy) -> None:
        """Begin the context of a message."""
        structlog.contextvars.bind_contextvars(job=message.message_id, stage=message.queue_name, worker=WORKER)

    def after_ack(self, _broker: Broker, _message: MessageProxy) -> None:
        """End the context of a message that is done with."""
        structlog.contextvars.clear_contextvars()

    def after_nack(self, _broker: Broker, _message: MessageProxy) -> None:
        """End the context of a message that went to the dead letters."""
        structlog.contextvars.clear_contextvars()


def open_sent(job_id: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Job | None:
    """Return the job of a message to decode, with a record also where its sender is not ours; None: it has ended.

    Raises:
        JobError: `invalid_options`, `source_too_large` or `unsupported_schema`, of a sender that checks nothing.
    """
    try:
        source, options = admit(args, keywords)
    except JobError:
        store.jobs.create(job_id, args[0] if args and is_text(args[0]) else "", Options())
        raise
    store.jobs.create(job_id, source, options)
    return open_job(job_id)


def open_job(job_id: str) -> Job | None:
    """Return the job that a message belongs to; None, with a log line, where there is nothing left to do for it."""
    try:
        job = store.jobs.get(job_id)
    except UnknownJob:
        log.warning("Message dropped: its job expired or was deleted")
        return None
    if job.ended:
        log.info("Message dropped: its job has ended", status=job.status)
        return None
    return job


def drop_audio(job_id: str) -> None:
    """Delete a job's audio where nobody will come for it: the job has ended, or has its transcript from a twin."""
    try:
        job = store.jobs.get(job_id)
    except UnknownJob:
        store.audio.delete(job_id)
        return
    if job.ended or job.transcript is not None:
        store.audio.delete(job_id)
