"""The enrich stage as the queue sees it: a transcript in, its summary into the job record, and the job is done."""

from __future__ import annotations

from typing import Any

import dramatiq
import structlog
from dramatiq.errors import Retry

from actors import broker, process, tracking
from config import settings
from pipeline.enrich import Enricher, record
from pipeline.metrics import hooks as measures
from voicemill.admission import demand_schema
from voicemill.errors import JobError
from voicemill.job import Failure, Job

BROKER = broker.for_process("enrich")
NO_KEY = "no GEMINI_API_KEY is set for the enrich workers"
NO_SPEECH = "the message holds no speech"

_enricher: Enricher | None = None
log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name="enrich", actor_name="enrich", broker=BROKER, throws=broker.EXPECTED)
def enrich(job_id: str, *, schema: int = 1) -> None:
    """Write the summary of a job's transcript, or note why it has none; either way the job is done."""
    demand_schema(schema)
    job = tracking.open_job(job_id)
    if job is None or not store.jobs.begin(job_id, "enrich", tracking.WORKER):
        return
    enricher, transcript = _enricher, job.transcript or {}
    if enricher is None:
        results: dict[str, Any] = {"enrichment_skipped": NO_KEY}
    elif transcript.get("no_speech") or not transcript.get("text", "").strip():
        results = {"enrichment_skipped": NO_SPEECH}
    else:
        try:
            if late := _overdue(job):
                raise late
            results = {"enrichment": enricher.enrich(job_id, transcript, metadata=job.metadata)}
        except JobError as error:
            final = _final(job, error)
            measures.note("attempts_failed_total", stage="enrich", code=final.code)
            log.warning("Summary given up", code=final.code)
            spent = {"model": enricher.model, **store.spending.close(job_id, parts=False)}
            results = {"enrichment_error": Failure.of(final) | spent}
    store.jobs.finish(job_id, "enrich", results)


def _final(job: Job, error: JobError) -> JobError:
    """Return the error that the job ends with.

    Raises:
        Retry: it does not end yet: another try may help, and there is time for it.
    """
    if error.retry_after is None:
        return error
    late = _overdue(job, error.retry_after)
    if late is not None:
        return JobError(late.code, f"{late.message}; last: {error.message}")
    raise Retry(str(error), delay=int(error.retry_after * 1000)) from error


def _overdue(job: Job, more: float = 0.0) -> JobError | None:
    return record.overdue(job.stages["enrich"].queued_at, settings.get().enrich_deadline, more)


if broker.in_worker():
    if settings.get().gemini_api_key is None:
        log.warning("Gemini skipped: jobs end without a summary", reason=NO_KEY)
    else:
        try:
            _enricher = Enricher(settings.get())
        except settings.SettingsError as error:
            process.give_up("enrich", str(error), process.USAGE)
        log.info("Gemini ready", model=_enricher.model)
