"""The enrich stage: a transcript in, its summary into the job's record. Either way the job is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from pipeline.enrich import memory
from pipeline.metrics import hooks
from pipeline.stage import Context, Result, RetryLater
from voicemill.errors import JobError
from voicemill.job import Failure, Job

if TYPE_CHECKING:
    from pipeline.enrich import Enricher

NO_KEY = "no GEMINI_API_KEY is set for the enrich workers"
NO_SPEECH = "the message holds no speech"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Enriching:
    """The stage's work; without an enricher every job ends without a summary."""

    enricher: Enricher | None

    def __call__(self, job: Job, context: Context) -> Result:
        """Write the summary of a job's transcript, or note why it has none.

        Raises:
            RetryLater: another attempt may help, and there is time for it.
        """
        transcript = job.transcript
        if self.enricher is None:
            return Result({"enrichment_skipped": NO_KEY})
        if transcript is None or transcript.no_speech or not transcript.text.strip():
            return Result({"enrichment_skipped": NO_SPEECH})
        deadline = context.settings.enrich_deadline
        try:
            if late := memory.overdue(job.stages["enrich"].queued_at, deadline):
                raise late
            enrichment = self.enricher.enrich(job.id, transcript, metadata=job.metadata)
        except JobError as error:
            final = _final(job, error, deadline)
            hooks.note("attempts_failed_total", stage="enrich", code=final.code)
            log.warning("Summary given up", code=final.code)
            spent = {"model": self.enricher.model, **context.store.spending.close(job.id, parts=False)}
            return Result({"enrichment_error": replace(Failure.of(final), spent=spent).as_dict()})
        return Result({"enrichment": enrichment.as_dict()})


def _final(job: Job, error: JobError, deadline: float) -> JobError:
    """Return the error that the job ends with.

    Raises:
        RetryLater: it does not end yet.
    """
    if error.retry_after is None:
        return error
    late = memory.overdue(job.stages["enrich"].queued_at, deadline, error.retry_after)
    if late is not None:
        return JobError(late.code, f"{late.message}; last: {error.message}")
    raise RetryLater(error, error.retry_after) from error
