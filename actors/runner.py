"""Runs a stage: opens the job of a message, begins an attempt, does the work, and finishes in one step.

Delivery is at least once, so a message may come again after its work was stored. Then `begin` refuses, and the message
is dropped: the message for the next stage was stored together with the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
import structlog
from dramatiq.middleware import CurrentMessage

from actors.attempt import Attempt
from actors.tracking import WORKER
from config.settings import Settings
from pipeline.metrics import hooks
from pipeline.stage import Context, Result, Stage
from voicemill import lifecycle
from voicemill.admission import admit, demand_schema
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Job
from voicemill.lifecycle import FIRST, NEEDS_SOURCE, STEPS, Status
from voicemill.options import Options, is_text
from voicemill.store import Store, connection
from voicemill.store.queue import SCHEMA, letter

MAX_REDECODES = 2  # of one message whose audio expires before its turn

log = structlog.get_logger(__name__)


class Runner:
    """Runs the work of one stage on the jobs of one store.

    Args:
        stage: its name.
        work: what it does.
        store: where the jobs are.
        settings: the worker's.
        attempt: where the thread's attempt is noted.
    """

    def __init__(self, stage: str, work: Stage, store: Store, settings: Settings, attempt: Attempt) -> None:
        self._stage, self._work = stage, work
        self._store, self._settings, self._attempt = store, settings, attempt

    def __call__(self, *args: Any, **keywords: Any) -> None:
        """Process the current message; the arguments are those that it carries."""
        message = CurrentMessage.get_current_message()
        assert message is not None, "the worker's broker has the middleware"  # noqa: S101
        self.run(message.message_id, args, keywords, message.options.get("redis_message_id", ""))

    def run(self, job_id: str, args: tuple[Any, ...], keywords: Mapping[str, Any], redis_id: str = "") -> None:
        """Process a message.

        Args:
            job_id: the message's id.
            args: of the message.
            keywords: of the message.
            redis_id: Redis's id of the message.

        Raises:
            JobError: the work failed.
            RetryLater: the stage wants another attempt.
        """
        self._attempt.token = None
        job = self._open(job_id, args, keywords, redis_id)
        if job is None:
            return
        if job.ended:
            log.info("Message dropped: its job has ended", status=job.status)
            # An earlier attempt may have stored its result and lost the connection or died before it deleted the audio.
            # A failed job's audio is kept for a retry.
            if STEPS[self._stage].working in NEEDS_SOURCE and job.status != Status.FAILED:
                self._drop_audio(job_id)
            return
        token = self._attempt.token = self._store.jobs.begin(job_id, self._stage, WORKER)
        if token is None:
            self._hand_on(job_id, keywords)
            return
        try:
            result = self._work(job, self._context(job_id))
        except JobError as error:
            if not self._decode_again(job, error):
                raise
            return
        if result is None or not self._finish(job, result, token):
            self._drop_audio(job_id)

    def _open(self, job_id: str, args: tuple[Any, ...], keywords: Mapping[str, Any], redis_id: str) -> Job | None:
        """Return the job that a message belongs to; None, with a log line, if it is gone."""
        if self._stage == FIRST and not is_reference(job_id, args, keywords):
            self._adopt(job_id, args, keywords, redis_id)
        demand_schema(keywords.get("schema", 1))
        try:
            return self._store.jobs.get(job_id)
        except UnknownJob:
            log.warning("Message dropped: its job expired or was deleted")
            return None

    def _adopt(self, job_id: str, args: tuple[Any, ...], keywords: Mapping[str, Any], redis_id: str) -> None:
        """Write the record of a message that another producer or an older version sent with its source and options.

        The message then carries its id alone, so that nothing personal waits in the queues.

        Raises:
            JobError: `invalid_options`, `source_too_large` or `unsupported_schema`, of a sender that validates nothing.
        """
        try:
            source, options = admit(args, keywords)
        except JobError:
            self._store.jobs.create(job_id, args[0] if args and is_text(args[0]) else "", Options())
            raise
        self._store.jobs.create(job_id, source, options)
        self._store.queues.replace_body(self._stage, redis_id, job_id)

    def _context(self, job_id: str) -> Context:
        return Context(
            store=self._store,
            settings=self._settings,
            progress=lambda done, total: self._progress(job_id, done, total),
            wanted=lambda: self._store.jobs.wanted(job_id),
        )

    def _progress(self, job_id: str, done: int, total: int) -> None:
        """Publish progress; while Redis is away nobody hears of it, and the next call says as much."""
        try:
            self._store.jobs.progress(job_id, self._stage, done, total)
        except redis.RedisError as error:
            if not connection.may_pass(error):
                raise

    def _finish(self, job: Job, result: Result, token: int) -> bool:
        last = result.through or self._stage
        following = lifecycle.following(last, job.options)
        stored = self._store.jobs.finish(
            job.id, self._stage, result.fields, token=token, through=result.through, following=following
        )
        if not stored:
            return False
        timing = self._store.jobs.timing(job.id, self._stage)
        if timing is not None:
            hooks.note("stage_wait_seconds", timing.wait, stage=self._stage)
            hooks.note("stage_work_seconds", timing.work, stage=self._stage)
        if STEPS[self._stage].working in NEEDS_SOURCE and STEPS[last].finished not in NEEDS_SOURCE:
            self._store.audio.delete(job.id)
        if result.afterwards is not None:
            result.afterwards()
        return True

    def _decode_again(self, job: Job, error: JobError) -> bool:
        """Send a job whose audio expired before its turn back to decode. Return False if that is no help."""
        if error.code is not ErrorCode.HANDOFF_EXPIRED or self._stage == FIRST or job.redecodes >= MAX_REDECODES:
            return False
        self._store.jobs.restart(job.id, FIRST, expired=True)
        return True

    def _hand_on(self, job_id: str, keywords: Mapping[str, Any]) -> None:
        """Tidy up after an earlier attempt that finished: its audio, and the next message of an older version."""
        if STEPS[self._stage].working in NEEDS_SOURCE:
            self._drop_audio(job_id)
        if keywords.get("schema", 1) >= SCHEMA:
            return
        try:
            job = self._store.jobs.get(job_id)
        except UnknownJob:
            return
        following = lifecycle.following(self._stage, job.options)
        if job.status == STEPS[self._stage].finished and following is not None:
            self._store.queues.push(letter(following, job_id))

    def _drop_audio(self, job_id: str) -> None:
        """Delete a job's audio if nobody needs it: the job has ended, or has its transcript from another attempt."""
        try:
            job = self._store.jobs.get(job_id)
        except UnknownJob:
            self._store.audio.delete(job_id)
            return
        if job.ended or job.transcript is not None:
            self._store.audio.delete(job_id)


def is_reference(job_id: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    """Return whether a message carries its job's id alone, as those of this and later versions do."""
    schema = keywords.get("schema")
    return args == (job_id,) and isinstance(schema, int) and schema >= SCHEMA
