"""`enrich`: another summary of what was transcribed already, with another prompt or model; no audio is touched."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from config import settings
from pipeline.enrich import Enricher
from voicemill.errors import ErrorCode, JobError, UnknownJob

UNKNOWN_JOB, UNFINISHED = 4, 5  # exit codes
TIMEOUT = 600.0  # seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", nargs="+", help="jobs that are done")
    parser.add_argument("--prompt", metavar="FILE", type=Path, help="another prompt than ENRICH_PROMPT")
    parser.add_argument("--model", help="another model than GEMINI_MODEL")
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"of each job: where Gemini keeps failing, give up after this ({TIMEOUT:g})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write each summary anew; 1 where one could not be had, 4 where a job is unknown, 5 where time ran out.

    Old ones stay until then.
    """
    chosen = settings.get()
    if chosen.gemini_api_key is None:
        raise settings.SettingsError("GEMINI_API_KEY is not set: there is nobody to ask")
    enricher = Enricher(chosen)
    code = 0
    for job_id in arguments.id:
        try:
            _enrich(enricher, job_id, arguments)
        except UnknownJob as error:
            print(error, file=sys.stderr)
            code = UNKNOWN_JOB
        except TimeoutError as error:
            print(error, file=sys.stderr)
            code = code or UNFINISHED
        except JobError as error:
            print(f"{job_id}: {error}. {ErrorCode(error.code).remedy}", file=sys.stderr)
            code = code or 1
    return code


def _enrich(enricher: Enricher, job_id: str, arguments: argparse.Namespace) -> None:
    deadline = time.monotonic() + arguments.timeout
    job = store.jobs.get(job_id)
    if job.status != "done" or job.transcript is None:
        raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, f"the job is {job.status}, not done")
    if job.transcript.get("no_speech") or not job.transcript.get("text", "").strip():
        raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, "the message holds no speech")
    store.spending.close(job_id, parts=False)  # what an earlier run paid, or had to try, is not held against this one
    prompt = None if arguments.prompt is None else arguments.prompt.absolute()
    while True:
        try:
            enrichment = enricher.enrich(
                job_id, job.transcript, metadata=job.metadata, prompt_file=prompt, model=arguments.model
            )
        except JobError as error:
            if error.retry_after is None:
                raise
            if time.monotonic() + error.retry_after > deadline:
                late = f"not written within {arguments.timeout:g} s: the job keeps the summary it had"
                raise TimeoutError(f"{job_id}: {error.message}; {late}") from None
            print(f"{job_id}: {error.message}; again in {error.retry_after:.0f} s", file=sys.stderr)
            time.sleep(error.retry_after)
        else:
            if not store.jobs.rewrite(job_id, enrichment):
                raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, "the job was deleted or began anew meanwhile")
            print(f"{job_id}: {enrichment.get('title') or 'written'}")
            return
