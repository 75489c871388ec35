"""The door as OpenAI's clients know it: `/v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/models`."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from voicemill import aio as aiojobs
from voicemill import render
from voicemill.job import Job
from web import intake
from web.arrivals import Arrivals
from web.intake import Form
from web.keys import Caller, caller
from web.languages import NAMES
from web.problems import RESPONSES, ErrorBody, Problem, of_job

WHISPER = "whisper-1"  # the name that OpenAI's clients send; here it stands for the configured model
REFUSED = {  # fields of OpenAI's other models: to leave them out of account would be to answer something else
    "include": "log-probabilities of tokens are not told",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}

LATE: dict[int | str, dict[str, Any]] = {
    504: {"model": ErrorBody, "description": "Not done within API_WAIT_TIMEOUT; the job that X-Job-Id names goes on"}
}

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class Wish(BaseModel):
    """The form beside its file."""

    model: str = Field(description="`whisper-1`, or a name of /v1/models: the configured one", examples=[WHISPER])
    language: str | None = Field(
        None,
        description="What is spoken, as ISO-639-1 has it; unset: it is detected",
        json_schema_extra={"examples": ["en", "ko"]},
    )
    prompt: str | None = Field(None, description="Text that precedes the message: names, spelling, style")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    temperature: float = Field(
        0, ge=0, le=1, description="Taken and left: decoding begins at 0 and goes higher where that fails, as at OpenAI"
    )
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default=["segment"], alias="timestamp_granularities[]", description="Other than segment: verbose_json only"
    )
    stream: bool = Field(False, description="Refused: see GET /jobs/{id}/events")
    enrich: bool = Field(False, description="Whether a summary is made, too; it is not waited for (Voicemill's own)")


class Models(BaseModel):
    """The models, as OpenAI lists them."""

    object: Literal["list"]
    data: list[dict[str, Any]]


def _described(wish: type[BaseModel]) -> dict[str, Any]:
    """Return what a route has to say of the form that it reads by itself, after the key is known to be good."""
    schema = wish.model_json_schema(by_alias=True)
    schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "The voice message"}
    schema["required"] = ["file", "model"]
    text = {"schema": {"type": "string"}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The transcript in the format that was asked for",
                "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": text, "text/vtt": text},
            }
        },
    }


@router.post(
    "/audio/transcriptions", response_class=Response, responses=RESPONSES | LATE, openapi_extra=_described(Wish)
)
async def transcriptions(request: Request, _caller: Annotated[Caller, Depends(caller)]) -> Response:
    """Write down a voice message in the language that is spoken, and wait for it."""
    return await _answer(request, "transcribe")


@router.post("/audio/translations", response_class=Response, responses=RESPONSES | LATE, openapi_extra=_described(Wish))
async def translations(request: Request, _caller: Annotated[Caller, Depends(caller)]) -> Response:
    """Write down a voice message in English, whatever is spoken, and wait for it."""
    return await _answer(request, "translate")


@router.get("/models")
async def models(request: Request, _caller: Annotated[Caller, Depends(caller)]) -> Models:
    """List the names that `model` takes."""
    return Models(object="list", data=[_model(name) for name in _names(request)])


@router.get("/models/{name:path}")
async def model(request: Request, name: str, _caller: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
    """Describe one model."""
    _demand_model(request, name)
    return _model(name)


async def _answer(request: Request, task: str) -> Response:
    async with intake.received(request) as form:
        wish = _wish(form)
        _demand_model(request, wish.model)
        language = wish.language.lower() if wish.language else None
        keywords = {
            "task": task,
            "language": language,
            "prompt": wish.prompt or None,
            "word_timestamps": "word" in wish.timestamp_granularities,
            "enrich": wish.enrich,
        }
        job_id = await intake.send_file(form.file, keywords)
    request.scope["voicemill.headers"]["X-Job-Id"] = job_id
    job = await _wait(request, job_id)
    return Response(status_code=499) if job is None else _told(job, wish, task)  # 499: nobody reads it


def _told(job: Job, wish: Wish, task: str) -> Response:
    if job.transcript is None:
        error = job.error or {"code": "internal", "message": f"the job ended {job.status}, without a transcript"}
        problem = of_job(error["code"], error["message"])
        problem.param = "file" if problem.status < 500 else None
        raise problem
    return rendered(job.transcript, wish.response_format, task, wish.timestamp_granularities)


async def _wait(request: Request, job_id: str) -> Job | None:
    """Return the job once it has its transcript; None: the client left before, and the job was cancelled."""
    limit = request.app.state.settings.api_wait_timeout
    with request.scope["voicemill.clock"].away():
        arrivals: Arrivals = request.app.state.arrivals
        waiting = asyncio.ensure_future(arrivals.transcribed(job_id))
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({waiting, leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if leaving.done():
                await aiojobs.cancel(job_id)
                return None
        finally:
            for task in (waiting, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
    raise Problem(504, "wait_timeout", f"job {job_id} is not done after {limit:g} s, and goes on: GET /jobs/{job_id}")


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wish(form: Form) -> Wish:
    """Read the form's fields.

    Raises:
        Problem: one of them is not what it takes, or asks for what is not there.
    """
    granularities = "timestamp_granularities"
    fields = {name.removesuffix("[]"): values for name, values in form.fields.items()}
    for name, why in REFUSED.items():
        if name in fields:
            raise Problem(400, "unsupported_parameter", f"{name}: {why}", param=name)
    data: dict[str, Any] = {name: values[-1] for name, values in fields.items() if name != granularities}
    if granularities in fields:
        data[f"{granularities}[]"] = fields[granularities]
    wish = intake.check(Wish, data)
    if wish.stream:
        text = "stream: a transcript comes in one piece; GET /jobs/{id}/events tells how far one is"
        raise Problem(400, "unsupported_parameter", text, param="stream")
    if granularities in fields and wish.response_format != "verbose_json":
        text = f"{granularities}: takes response_format verbose_json"
        raise Problem(400, "invalid_request", text, param=granularities)
    return wish


def _names(request: Request) -> list[str]:
    configured = str(request.app.state.settings.whisper_model)
    return [WHISPER, Path(configured).name if configured.startswith(("/", ".", "~")) else configured]


def _demand_model(request: Request, name: str) -> None:
    names = _names(request)
    if name not in names:
        text = f"the model {name[:80]!r} does not exist here; there are {', '.join(names)}"
        raise Problem(404, "model_not_found", text, param="model")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "voicemill"}


# How a transcript looks


def rendered(transcript: dict[str, Any], form: str, task: str, granularities: list[Any]) -> Response:
    """Return a transcript of a job record in one of OpenAI's formats.

    Args:
        transcript: as the record has it.
        form: `response_format`.
        task: transcribe or translate.
        granularities: "word" and "segment", or one of them, for verbose_json.
    """
    text = transcript["text"]
    if form == "text":
        return PlainTextResponse(f"{text}\n")
    if form == "srt":
        return PlainTextResponse(render.render(transcript, "srt"))
    if form == "vtt":
        return PlainTextResponse(render.render(transcript, "vtt"), media_type="text/vtt")
    usage = {"type": "duration", "seconds": -(-transcript["duration"] // 1)}
    if form == "json":
        return JSONResponse({"text": text, "usage": usage})
    spoken = "en" if task == "translate" else transcript["language"]
    body = {
        "task": task,
        "language": NAMES.get(spoken, spoken or ""),  # OpenAI's is always text; nobody spoke where it is not known
        "duration": transcript["duration"],
        "text": text,
        "usage": usage,
    }
    if "segment" in granularities:
        body["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript["segments"])]
    if "word" in granularities:
        words = [word for segment in transcript["segments"] for word in segment.get("words") or []]
        body["words"] = [{"word": word["word"].strip(), "start": word["start"], "end": word["end"]} for word in words]
    return JSONResponse(body)


def _segment(number: int, segment: dict[str, Any]) -> dict[str, Any]:
    """Return a segment with all that OpenAI's has; tokens and their temperature are not kept."""
    text = segment["text"].encode()
    return {
        "id": number,
        "seek": round(segment["start"] * 100),  # hundredths of a second, as Whisper counts frames
        "start": segment["start"],
        "end": segment["end"],
        "text": segment["text"],
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment["avg_logprob"],
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 3),  # as Whisper's own code has it
        "no_speech_prob": segment["no_speech_prob"],
    }
