"""`enrich`: write the summary of finished jobs again, with another prompt or model; the audio is not needed."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from config import settings
from pipeline.enrich import Enricher
from voicemill import Client
from voicemill._cli import parsing
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.lifecycle import Status
from voicemill.store import Store

FAILED, UNKNOWN_JOB, UNFINISHED = 1, 4, 5  # exit codes
TIMEOUT = 600.0  # seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("id", metavar="ID", nargs="+", help="jobs that are done")
    parser.add_argument("--prompt", metavar="FILE", type=Path, help="another prompt than ENRICH_PROMPT")
    parser.add_argument("--model", help="another model than GEMINI_MODEL")
    parser.add_argument(
        "--timeout",
        type=parsing.duration,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"of each job: give up if the provider keeps failing so long ({TIMEOUT:g})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write each summary again; 1 if one failed, 4 if a job is unknown, 5 if time ran out.

    A job keeps its old summary until the new one is written.
    """
    code = 0
    with Client() as client:
        enricher = Enricher(settings.get(), client.store)
        for job_id in arguments.id:
            try:
                _enrich(enricher, client.store, job_id, arguments)
            except UnknownJob as error:
                print(error, file=sys.stderr)
                code = UNKNOWN_JOB
            except TimeoutError as error:
                print(error, file=sys.stderr)
                code = code or UNFINISHED
            except JobError as error:
                print(f"{job_id}: {error.advice}", file=sys.stderr)
                code = code or FAILED
    return code


def _enrich(enricher: Enricher, store: Store, job_id: str, arguments: argparse.Namespace) -> None:
    deadline = time.monotonic() + arguments.timeout
    job = store.jobs.get(job_id)
    if job.status != Status.DONE or job.transcript is None:
        raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, f"the job is {job.status}, not done")
    if job.transcript.no_speech or not job.transcript.text.strip():
        raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, "the recording has no speech")
    store.spending.close(job_id, parts=False)  # requests of an earlier run do not count against this one
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
            print(f"{job_id}: {error.message}; retried in {error.retry_after:.0f} s", file=sys.stderr)
            time.sleep(error.retry_after)
        else:
            if not store.jobs.rewrite(job_id, enrichment):
                raise JobError(ErrorCode.ENRICH_NO_TRANSCRIPT, "the job was deleted or restarted meanwhile")
            print(f"{job_id}: {enrichment.title or 'written'}")
            return
