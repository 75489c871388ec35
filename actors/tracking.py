"""Binds the job's id to every log line of a message's thread."""

from __future__ import annotations

import os
import socket

import structlog
from dramatiq import Broker, Worker
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from voicemill.lifecycle import stage_of

WORKER = f"{socket.gethostname()}:{os.getpid()}"

log = structlog.get_logger(__name__)


class Tracking(Middleware):
    """Binds job, stage and worker to the log lines of a message's thread, Dramatiq's own lines included."""

    def after_worker_boot(self, broker: Broker, _worker: Worker) -> None:
        """Log that the process takes messages from now on."""
        for stage in broker.get_declared_actors():
            log.info("Stage ready", stage=stage, worker=WORKER)

    def before_process_message(self, _broker: Broker, message: MessageProxy) -> None:
        """Begin the context of a message."""
        stage = stage_of(message.queue_name)
        structlog.contextvars.bind_contextvars(job=message.message_id, stage=stage, worker=WORKER)

    def after_ack(self, _broker: Broker, _message: MessageProxy) -> None:
        """End the context of a message that is done."""
        structlog.contextvars.clear_contextvars()

    def after_nack(self, _broker: Broker, _message: MessageProxy) -> None:
        """End the context of a message that became a dead letter."""
        structlog.contextvars.clear_contextvars()
