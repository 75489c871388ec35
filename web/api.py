"""Voicemill's own HTTP API: jobs as the client has them, dead letters, and the status of the system."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

import redis
import structlog
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field, RootModel
from starlette.concurrency import run_in_threadpool

from voicemill import UnknownJob, options
from voicemill.lifecycle import QUEUES
from voicemill.store.queue import Queues
from web import forms, records
from web.auth import Caller, caller
from web.problems import RESPONSES, ErrorBody, Problem
from web.records import START
from web.state import state_of

_EVENT_ID = re.compile(r"\d{1,19}-\d{1,19}")  # of a Redis stream
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "There is no such job"}}
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorBody, "description": "The job's status forbids it"}}

RECORD: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt")}}
}

router = APIRouter(responses=RESPONSES)
Known = Annotated[Caller, Depends(caller)]
log = structlog.get_logger(__name__)


class NewJob(BaseModel):
    """A job whose audio the workers fetch themselves."""

    source: str = Field(min_length=1, max_length=64 * 1024, description="URL, path under MEDIA_ROOT, or data: URL")
    options: dict[str, Any] = Field(default_factory=dict)


class OptionsField(RootModel[dict[str, Any]]):
    """The options as a field of a form."""


class Accepted(BaseModel):
    """A job that waits for its turn."""

    id: str
    status: Literal["queued"]


class Cancelled(BaseModel):
    """Whether a job was cancelled; false if it had ended already."""

    id: str
    cancelled: bool


class DeadLetterBody(BaseModel):
    """A message whose work failed for good."""

    job_id: str
    stage: str
    at: float = Field(description="Unix seconds")
    code: str
    reason: str


class Retried(BaseModel):
    """A dead letter that waits again, in the queue of `stage`."""

    job_id: str
    stage: str


def _request_body() -> dict[str, Any]:
    described = NewJob.model_json_schema()
    described["properties"]["options"] = options.json_schema()
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary", "description": "The voice message"},
            "options": {"type": "string", "description": "The options, as JSON"},
        },
    }
    content = {"application/json": {"schema": described}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/jobs", status_code=202, tags=["jobs"], openapi_extra=_request_body())
async def create(request: Request, response: Response, _caller: Known) -> Accepted:
    """Send a voice message, by its address or as an upload. The answer comes before the work begins."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with forms.received(request) as form:
            given = forms.check(OptionsField, (form.one("options") or "{}").encode())
            job = await forms.send_file(request, form.file, given.root)
    else:
        new = forms.check(NewJob, await request.body())
        job = await forms.send(request, new.source, new.options)
    response.headers["Location"] = f"/jobs/{job.id}"
    return Accepted(id=job.id, status="queued")


@router.get("/jobs/{job_id}", tags=["jobs"], responses=UNKNOWN | CONFLICT | RECORD, response_class=JSONResponse)
async def read(
    request: Request,
    job_id: str,
    _caller: Known,
    format: Literal["json", "txt", "srt", "vtt"] = "json",  # noqa: A002
) -> Response:
    """Return a job's record, or with `format` its transcript as text or subtitles."""
    job = await records.get(state_of(request).redis, job_id)
    if format == "json":
        return JSONResponse(job.as_dict())
    if job.transcript is None:
        raise Problem(409, "no_transcript", f"job {job_id} is {job.status} and has no transcript", param="format")
    return PlainTextResponse(job.transcript.render(format), media_type="text/vtt" if format == "vtt" else "text/plain")


@router.get(
    "/jobs/{job_id}/events",
    tags=["jobs"],
    responses=UNKNOWN | {200: {"content": {"text/event-stream": {}}}, 204: {"description": "There are no more events"}},
    response_class=StreamingResponse,
)
async def events(
    request: Request, job_id: str, _caller: Known, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Stream a job's events, past and live, as server-sent events; with `Last-Event-ID` those after that one."""
    client = state_of(request).redis
    job = await records.get(client, job_id)
    after = last_event_id if last_event_id and _EVENT_ID.fullmatch(last_event_id) else START
    if job.ended and after != START and not await records.has_event_after(client, job_id, after):
        return Response(status_code=204)  # otherwise browsers would reconnect for ever
    headers = {"X-Accel-Buffering": "no"}  # otherwise nginx buffers the stream
    return StreamingResponse(_stream(request, job_id, after), headers=headers, media_type="text/event-stream")


@router.post("/jobs/{job_id}/cancel", tags=["jobs"], responses=UNKNOWN)
async def cancel(request: Request, job_id: str, _caller: Known) -> Cancelled:
    """Cancel a job. Work that is running finishes, and its result is discarded."""
    cancelled = await run_in_threadpool(state_of(request).client.cancel, job_id)
    return Cancelled(id=job_id, cancelled=cancelled)


@router.delete("/jobs/{job_id}", status_code=204, tags=["jobs"], responses=UNKNOWN)
async def delete(request: Request, job_id: str, _caller: Known) -> None:
    """Remove every trace of a job."""
    await run_in_threadpool(state_of(request).client.delete, job_id)


@router.get("/status", tags=["system"])
async def read_status(request: Request, _caller: Known) -> dict[str, Any]:
    """Return how every stage is doing: workers, queues, waiting and working times."""
    return (await run_in_threadpool(state_of(request).client.status)).as_dict()


@router.get("/dead", tags=["system"])
async def dead(
    request: Request,
    _caller: Known,
    stage: Literal[QUEUES] | None = None,  # type: ignore[valid-type]
) -> list[DeadLetterBody]:
    """List the messages whose work failed for good, the oldest first."""
    queues = state_of(request).client.store.queues
    letters = await run_in_threadpool(lambda: list(queues.dead_letters(stage)))
    return [
        DeadLetterBody(**{name: value for name, value in asdict(letter).items() if name != "id"}) for letter in letters
    ]


@router.post("/dead/{stage}/{job_id}/retry", status_code=202, tags=["system"], responses=UNKNOWN | CONFLICT)
async def retry(
    request: Request,
    stage: Literal[QUEUES],  # type: ignore[valid-type]
    job_id: str,
    _caller: Known,
) -> Retried:
    """Retry a job that failed for good, from the stage where its work can continue."""
    queue = await run_in_threadpool(_retry, state_of(request).client.store.queues, stage, job_id)
    return Retried(job_id=job_id, stage=queue)


@router.get("/healthz", tags=["system"])
async def health(request: Request) -> dict[str, str]:
    """Return whether the server and its Redis work. No key is needed."""
    await state_of(request).redis.ping()
    return {"status": "ok"}


def _retry(queues: Queues, stage: str, job_id: str) -> str:
    letter = queues.dead_letter(stage, job_id)
    if letter is None:
        raise Problem(404, "unknown_job", f"{stage} has no dead letter of job {job_id!r}", param="job_id")
    queue = queues.retry(letter)
    if queue is None:
        raise Problem(409, "not_retried", f"job {job_id} was deleted, has expired, or has ended otherwise meanwhile")
    return queue


async def _stream(request: Request, job_id: str, after: str) -> AsyncIterator[str]:
    """Yield a job's events as text/event-stream, until the job ends or the server stops."""
    state, last = state_of(request), time.monotonic()
    try:
        async for batch in records.follow(state.redis, job_id, after, block=state.timeouts.event_block):
            text = "".join(f"id: {event_id}\ndata: {event}\n\n" for event_id, event in batch.events)
            if not text and time.monotonic() - last > state.timeouts.keep_alive:
                text = ": keep-alive\n\n"
            if text:
                last = time.monotonic()
                yield text
            if state.stopping.is_set():
                return
    except UnknownJob:
        return  # it was deleted meanwhile
    except redis.RedisError as error:  # the client reconnects
        log.warning("Event stream aborted", job=job_id, error=type(error).__name__)
