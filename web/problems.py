"""What goes wrong at the door, told in one shape, which is OpenAI's: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import redis
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from voicemill.errors import ErrorCode, JobError, Refused, UnknownJob

log = structlog.get_logger(__name__)

AGAIN = 5.0  # seconds after which it is worth asking again where the system is full or Redis is away

# HTTP's status by code, where it is neither 400 (the sender's fault) nor 503 (it may work later).
STATUS = {
    "source_too_large": 413,
    "too_long": 413,
    "transcribe_crashed": 500,
    "worker_killed": 500,
    "handoff_expired": 500,
    "unsupported_schema": 500,
    "invalid_settings": 500,
    "internal": 500,
}
# Codes of the door itself, and OpenAI's names of kinds of errors.
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": text}
    for code, text in {
        400: "The request or the message cannot be used",
        401: "No key, or a wrong one",
        413: "More bytes or more audio than is taken",
        429: "More requests a minute than API_REQUESTS_PER_MINUTE; see Retry-After",
        503: "Too much waits, or Redis is away; see Retry-After",
    }.items()
}


class Problem(Exception):
    """A request cannot be answered as wished.

    Args:
        status: of HTTP.
        code: a name for programs.
        message: a sentence for people.
        param: the part of the request that is to blame.
        retry_after: seconds after which it may work; None: the same request will fail again.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after


def of_job(code: str, message: str) -> Problem:
    """Return the problem that a row of voicemill/errors.py is to whoever waits at the door."""
    row = ErrorCode(code)
    status = STATUS.get(code, 503 if row.retryable else 400)
    text = f"{message}. {row.remedy}"
    return Problem(status, code, text, retry_after=AGAIN if status == 503 else None)


def answer(problem: Problem) -> JSONResponse:
    """Return a problem as HTTP has it.

    `x-should-retry` is read by OpenAI's clients, which would otherwise send a message again after any 5xx.
    """
    kind = TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    detail = {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}
    headers = {"x-should-retry": "true" if problem.retry_after is not None else "false"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after + 0.5)))
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": detail}, problem.status, headers)


def install(app: FastAPI) -> None:
    """Have every failure of the application answered in this shape; faults of our own are answered by access.py."""

    @app.exception_handler(Problem)
    async def _problem(_request: Request, error: Problem) -> JSONResponse:
        return answer(error)

    @app.exception_handler(Refused)
    async def _refused(_request: Request, error: Refused) -> JSONResponse:
        return answer(
            of_job(error.code, str(error).partition(": ")[2].removesuffix(f". {ErrorCode(error.code).remedy}"))
        )

    @app.exception_handler(JobError)
    async def _job_error(_request: Request, error: JobError) -> JSONResponse:
        return answer(of_job(error.code, error.message))

    @app.exception_handler(UnknownJob)
    async def _unknown(_request: Request, error: UnknownJob) -> JSONResponse:
        return answer(Problem(404, "unknown_job", str(error), param="job_id"))

    @app.exception_handler(redis.exceptions.OutOfMemoryError)
    async def _out_of_memory(_request: Request, _error: redis.RedisError) -> JSONResponse:
        return answer(of_job("system_full", "Redis has no memory left"))

    @app.exception_handler(redis.RedisError)
    async def _redis(_request: Request, error: redis.RedisError) -> JSONResponse:
        log.warning("Redis cannot be used", error=f"{type(error).__name__}: {error}")
        return answer(of_job("redis_unavailable", f"Redis cannot be used: {type(error).__name__}"))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or None
        return answer(Problem(400, "invalid_request", f"{place or 'the request'}: {first['msg']}", param=place))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
        response = answer(Problem(error.status_code, code, str(error.detail)))
        response.headers.update(error.headers or {})
        return response
