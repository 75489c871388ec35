"""The API that OpenAI's clients speak: `/v1/audio/transcriptions`, `/v1/audio/translations` and `/v1/models`."""

from __future__ import annotations

import asyncio
import math
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from voicemill import ErrorCode, Job, Segment, Transcript
from web import forms
from web.access import CLIENT_LEFT
from web.auth import Caller, caller
from web.forms import Form
from web.languages import NAMES
from web.problems import RESPONSES, ErrorBody, Problem, of_error, of_failure
from web.state import state_of

WHISPER = "whisper-1"  # the name that OpenAI's clients send; here it stands for the configured model
UNSUPPORTED = {  # fields of OpenAI's other models: a client that sends one expects another answer than ours
    "include": "log-probabilities of tokens are not available",
    "known_speaker_names": "speakers are not distinguished",
    "known_speaker_references": "speakers are not distinguished",
}

LATE: dict[int | str, dict[str, Any]] = {
    504: {"model": ErrorBody, "description": "Not done within API_WAIT_TIMEOUT; the job of X-Job-Id continues"}
}

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class TranscriptionForm(BaseModel):
    """The form without its file."""

    model: str = Field(description="`whisper-1`, or a name of /v1/models: the configured one", examples=[WHISPER])
    language: str | None = Field(
        None,
        description="Spoken language, as an ISO 639-1 code; detected if unset",
        json_schema_extra={"examples": ["en", "ko"]},
    )
    prompt: str | None = Field(None, description="Text that precedes the recording: names, spelling, style")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    temperature: float = Field(
        0, ge=0, le=1, description="Ignored: decoding starts at 0 and raises it if that fails, as OpenAI's default does"
    )
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default=["segment"], alias="timestamp_granularities[]", description="Anything but segment needs verbose_json"
    )
    stream: bool = Field(False, description="Not supported: see GET /jobs/{id}/events")
    enrich: bool = Field(False, description="Voicemill only: whether to write a summary as well; it is not waited for")


class ModelList(BaseModel):
    """The models, as OpenAI lists them."""

    object: Literal["list"]
    data: list[dict[str, Any]]


def _described(form: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a route that reads its form itself, after the key has been checked."""
    schema = form.model_json_schema(by_alias=True)
    schema["properties"]["file"] = {"type": "string", "format": "binary", "description": "The voice message"}
    schema["required"] = ["file", "model"]
    text = {"schema": {"type": "string"}}
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The transcript in the requested format",
                "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": text, "text/vtt": text},
            }
        },
    }


FORM = _described(TranscriptionForm)


@router.post(
    "/audio/transcriptions",
    response_class=Response,
    responses=RESPONSES | LATE,
    openapi_extra=FORM,
)
async def transcriptions(request: Request, _caller: Annotated[Caller, Depends(caller)]) -> Response:
    """Transcribe a voice message in its own language, and wait for the transcript."""
    return await _answer(request, "transcribe")


@router.post(
    "/audio/translations",
    response_class=Response,
    responses=RESPONSES | LATE,
    openapi_extra=FORM,
)
async def translations(request: Request, _caller: Annotated[Caller, Depends(caller)]) -> Response:
    """Transcribe a voice message into English, and wait for the transcript."""
    return await _answer(request, "translate")


@router.get("/models")
async def models(request: Request, _caller: Annotated[Caller, Depends(caller)]) -> ModelList:
    """List the valid values of `model`."""
    return ModelList(object="list", data=[_model(name) for name in _names(request)])


@router.get("/models/{name:path}")
async def model(request: Request, name: str, _caller: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
    """Describe one model."""
    _demand_model(request, name)
    return _model(name)


async def _answer(request: Request, task: str) -> Response:
    async with forms.received(request) as form:
        asked = _parse(form)
        _demand_model(request, asked.model)
        options = {
            "task": task,
            "language": asked.language.lower() if asked.language else None,
            "prompt": asked.prompt or None,
            "word_timestamps": "word" in asked.timestamp_granularities,
            "enrich": asked.enrich,
        }
        job_id = (await forms.send_file(request, form.file, options)).id
    request.scope["voicemill.headers"]["X-Job-Id"] = job_id
    job = await _wait(request, job_id)
    if job is None:
        return Response(status_code=CLIENT_LEFT)  # nobody reads it
    return rendered(_transcript(job), asked.response_format, task, asked.timestamp_granularities)


def _transcript(job: Job) -> Transcript:
    if job.transcript is not None:
        return job.transcript
    if job.error is None:
        raise of_error(ErrorCode.INTERNAL, f"the job is {job.status} and has no transcript")
    raise of_failure(job.error, param="file")


async def _wait(request: Request, job_id: str) -> Job | None:
    """Return the job once it has its transcript; None: the client disconnected, and the job was cancelled."""
    state = state_of(request)
    limit = state.settings.api_wait_timeout
    with request.scope["voicemill.timer"].away():
        waiting = asyncio.ensure_future(state.arrivals.transcribed(job_id))
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({waiting, leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if leaving.done():
                await run_in_threadpool(state.client.cancel, job_id)
                return None
        finally:
            for task in (waiting, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
    text = f"job {job_id} is not done after {limit:g} s and continues: read it at GET /jobs/{job_id}"
    raise Problem(504, "wait_timeout", text)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _parse(form: Form) -> TranscriptionForm:
    """Return the form's fields.

    Raises:
        Problem: a field is invalid, or asks for something unsupported.
    """
    granularities = "timestamp_granularities"
    fields = {name.removesuffix("[]"): values for name, values in form.fields.items()}
    for name, why in UNSUPPORTED.items():
        if name in fields:
            raise Problem(400, "unsupported_parameter", f"{name}: {why}", param=name)
    data: dict[str, Any] = {name: values[-1] for name, values in fields.items() if name != granularities}
    if granularities in fields:
        data[f"{granularities}[]"] = fields[granularities]
    parsed = forms.check(TranscriptionForm, data)
    if parsed.stream:
        text = "stream: the transcript comes in one piece; follow the progress at GET /jobs/{id}/events"
        raise Problem(400, "unsupported_parameter", text, param="stream")
    if granularities in fields and parsed.response_format != "verbose_json":
        text = f"{granularities}: needs response_format verbose_json"
        raise Problem(400, "invalid_request", text, param=granularities)
    return parsed


def _names(request: Request) -> list[str]:
    configured = str(state_of(request).settings.whisper_model)
    return [WHISPER, Path(configured).name if configured.startswith(("/", ".", "~")) else configured]


def _demand_model(request: Request, name: str) -> None:
    names = _names(request)
    if name not in names:
        text = f"there is no model {name[:80]!r}; use one of {', '.join(names)}"
        raise Problem(404, "model_not_found", text, param="model")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "voicemill"}


def rendered(transcript: Transcript, form: str, task: str, granularities: list[Any]) -> Response:
    """Return a transcript in one of OpenAI's formats.

    Args:
        transcript: of the job.
        form: `response_format`.
        task: transcribe or translate.
        granularities: "word" and "segment", or one of them, for verbose_json.
    """
    if form == "text":
        return PlainTextResponse(f"{transcript.text}\n")
    if form == "srt":
        return PlainTextResponse(transcript.srt())
    if form == "vtt":
        return PlainTextResponse(transcript.vtt(), media_type="text/vtt")
    usage = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    if form == "json":
        return JSONResponse({"text": transcript.text, "usage": usage})
    language = "en" if task == "translate" else transcript.language or ""
    body: dict[str, Any] = {
        "task": task,
        "language": NAMES.get(language, language),  # OpenAI's is always text: empty if nobody speaks
        "duration": transcript.duration,
        "text": transcript.text,
        "usage": usage,
    }
    if "segment" in granularities:
        body["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    if "word" in granularities:
        words = [word for segment in transcript.segments for word in segment.words or ()]
        body["words"] = [{"word": word.word.strip(), "start": word.start, "end": word.end} for word in words]
    return JSONResponse(body)


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """Return a segment with all the fields of OpenAI's; tokens and their temperature are not kept."""
    text = segment.text.encode()
    return {
        "id": number,
        "seek": round(segment.start * 100),  # hundredths of a second, Whisper's frames
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 3),  # as Whisper's own code computes it
        "no_speech_prob": segment.no_speech_prob,
    }
