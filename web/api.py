"""Voicemill's own HTTP API: jobs as `decode.send()` and the client have them, and the status of the system."""

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
from pydantic import BaseModel, Field, RootModel, TypeAdapter
from starlette.concurrency import run_in_threadpool

from actors import broker
from voicemill import aio as aiojobs
from voicemill import render, status
from voicemill.errors import UnknownJob
from voicemill.lifecycle import QUEUES
from voicemill.options import Options, parse
from voicemill.store import keys
from web import intake, records
from web.keys import Caller, caller
from web.problems import RESPONSES, ErrorBody, Problem
from web.records import START

KEEP_ALIVE = 15.0  # seconds after which a silent stream of events says that it lives; proxies wait for 30 and more
_EVENT_ID = re.compile(r"\d{1,19}-\d{1,19}")  # of a stream of Redis's
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "There is no such job"}}
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": ErrorBody, "description": "The job is not that far"}}

RECORD: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "text/vtt")}}
}

router = APIRouter(responses=RESPONSES)
Known = Annotated[Caller, Depends(caller)]
log = structlog.get_logger(__name__)


class NewJob(BaseModel):
    """A message that the workers fetch themselves."""

    source: str = Field(min_length=1, max_length=64 * 1024, description="Address, path under MEDIA_ROOT, or data: URL")
    options: dict[str, Any] = Field(default_factory=dict)


class Keywords(RootModel[dict[str, Any]]):
    """The options, where they are a field of a form."""


class Accepted(BaseModel):
    """A job that waits for its turn."""

    id: str
    status: Literal["queued"]


class Cancelled(BaseModel):
    """Whether a job was cancelled; it was not where it had ended already."""

    id: str
    cancelled: bool


class DeadLetter(BaseModel):
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
    options = TypeAdapter(Options).json_schema()
    described = NewJob.model_json_schema()
    described["properties"]["options"] = options
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
    """Send a message, by its address or with its bytes; the answer comes before the work begins."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with intake.received(request) as form:
            keywords = intake.check(Keywords, (form.one("options") or "{}").encode())
            job_id = await intake.send_file(form.file, keywords.root)
    else:
        new = intake.check(NewJob, await request.body())
        parse(new.options)
        job_id = await intake.send(new.source, new.options)
    response.headers["Location"] = f"/jobs/{job_id}"
    return Accepted(id=job_id, status="queued")


@router.get("/jobs/{job_id}", tags=["jobs"], responses=UNKNOWN | CONFLICT | RECORD, response_class=JSONResponse)
async def read(
    request: Request,
    job_id: str,
    _caller: Known,
    format: Literal["json", "txt", "srt", "vtt"] = "json",  # noqa: A002
) -> Response:
    """Return a job's record, or with `format` its transcript as text or subtitles."""
    job = await records.get(request.app.state.redis, job_id)
    if format == "json":
        return JSONResponse(job.as_dict())
    if job.transcript is None:
        raise Problem(409, "no_transcript", f"job {job_id} is {job.status}, and has no transcript", param="format")
    text = render.render(job.transcript, format)
    return PlainTextResponse(text, media_type="text/vtt" if format == "vtt" else "text/plain")


@router.get(
    "/jobs/{job_id}/events",
    tags=["jobs"],
    responses=UNKNOWN | {200: {"content": {"text/event-stream": {}}}, 204: {"description": "All was told before"}},
    response_class=StreamingResponse,
)
async def events(
    request: Request, job_id: str, _caller: Known, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Tell what happens to a job, live, as server-sent events; `Last-Event-ID` goes on behind that one."""
    job = await records.get(request.app.state.redis, job_id)
    after = last_event_id if last_event_id and _EVENT_ID.fullmatch(last_event_id) else START
    if job.ended and after != START and await _is_told(request, job_id, after):
        return Response(status_code=204)  # or browsers would ask again for ever
    headers = {"X-Accel-Buffering": "no"}  # or nginx holds it back
    return StreamingResponse(_told(request, job_id, after), headers=headers, media_type="text/event-stream")


@router.post("/jobs/{job_id}/cancel", tags=["jobs"], responses=UNKNOWN)
async def cancel(job_id: str, _caller: Known) -> Cancelled:
    """End a job; work that is running goes to its end and is thrown away."""
    return Cancelled(id=job_id, cancelled=await aiojobs.cancel(job_id))


@router.delete("/jobs/{job_id}", status_code=204, tags=["jobs"], responses=UNKNOWN)
async def delete(job_id: str, _caller: Known) -> None:
    """Remove every trace of a job."""
    await aiojobs.delete(job_id)


@router.get("/status", tags=["system"])
async def read_status(_caller: Known) -> dict[str, Any]:
    """Return how every stage is doing: workers, queues, waiting and working times."""
    return (await run_in_threadpool(status.read)).as_dict()


@router.get("/dead", tags=["system"])
async def dead(_caller: Known, stage: Literal[QUEUES] | None = None) -> list[DeadLetter]:  # type: ignore[valid-type]
    """List what failed for good, the oldest first."""
    letters = await run_in_threadpool(lambda: list(store.queues.dead_letters(stage)))
    return [DeadLetter(**{name: value for name, value in asdict(letter).items() if name != "id"}) for letter in letters]


@router.post("/dead/{stage}/{job_id}/retry", status_code=202, tags=["system"], responses=UNKNOWN | CONFLICT)
async def retry(stage: Literal[QUEUES], job_id: str, _caller: Known) -> Retried:  # type: ignore[valid-type]
    """Try a job again that failed for good, from where its work can go on."""
    queue = await run_in_threadpool(_retry, stage, job_id)
    return Retried(job_id=job_id, stage=queue)


@router.get("/healthz", tags=["system"])
async def health(request: Request) -> dict[str, str]:
    """Tell whether the door works; no key is needed."""
    await request.app.state.redis.ping()
    return {"status": "ok"}


def _retry(stage: str, job_id: str) -> str:
    letter = store.queues.dead_letter(stage, job_id)
    if letter is None:
        raise Problem(404, "unknown_job", f"{stage} has no dead letter of job {job_id!r}", param="job_id")
    queue = broker.enqueue_again(letter)
    if queue is None:
        raise Problem(409, "not_retried", f"job {job_id} is gone, or has ended otherwise meanwhile")
    return queue


async def _is_told(request: Request, job_id: str, after: str) -> bool:
    """Tell whether there is no event after this one."""
    return not await request.app.state.redis.xread({keys.events(job_id): after}, count=1)


async def _told(request: Request, job_id: str, after: str) -> AsyncIterator[str]:
    """Yield a job's events as text/event-stream has them, until the job or the server ends."""
    last = time.monotonic()
    try:
        async for news in records.follow(request.app.state.redis, job_id, after):
            text = "".join(f"id: {at}\ndata: {event}\n\n" for at, event in news.events)
            if not text and time.monotonic() - last > KEEP_ALIVE:
                text = ": still here\n\n"
            if text:
                last = time.monotonic()
                yield text
            if request.app.state.stopping.is_set():
                return
    except UnknownJob:
        return  # it was deleted meanwhile
    except redis.RedisError as error:  # whoever listens comes back
        log.warning("A stream of events broke off", job=job_id, error=type(error).__name__)
