"""How errors are answered: in OpenAI's shape, `{"error": {message, type, param, code}}`."""

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

from voicemill import ErrorCode, Failure, JobError, UnknownJob

log = structlog.get_logger(__name__)

RETRY_AFTER = 5.0  # seconds after which a client should try again if the system is full or Redis is away

# HTTP's status by error code, unless it is 400 (a retry cannot help) or 503 (it can).
STATUS = {
    ErrorCode.SOURCE_TOO_LARGE: 413,
    ErrorCode.TOO_LONG: 413,
    ErrorCode.TRANSCRIBE_CRASHED: 500,
    ErrorCode.WORKER_KILLED: 500,
    ErrorCode.HANDOFF_EXPIRED: 500,
    ErrorCode.UNSUPPORTED_SCHEMA: 500,
    ErrorCode.INVALID_SETTINGS: 500,
    ErrorCode.INTERNAL: 500,
}
CODES = {str(code): code for code in ErrorCode}  # by the names that records keep
# OpenAI's types of errors, by HTTP's status.
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The body of every answer that reports an error."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": text}
    for code, text in {
        400: "The request or the message is invalid",
        401: "The API key is missing or unknown",
        413: "The body or the recording is too large",
        429: "More requests than API_REQUESTS_PER_MINUTE; see Retry-After",
        503: "Too many jobs wait, or Redis is away; see Retry-After",
    }.items()
}


class Problem(Exception):
    """A request that is answered by an error.

    Args:
        status: of HTTP.
        code: a name for programs.
        message: a sentence for people.
        param: the part of the request that is to blame.
        retry_after: seconds after which the same request may succeed; None: it will fail again.
    """

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after


def status_of(code: str, *, retryable: bool) -> int:
    """Return HTTP's status for an error code, which may be one of a newer version."""
    if code in CODES and CODES[code] in STATUS:
        return STATUS[CODES[code]]
    return 503 if retryable else 400


def of_error(code: ErrorCode, message: str) -> Problem:
    """Return the answer to a request that failed with this code."""
    return of_failure(Failure(code, message, code.retryable, code.remedy))


def of_failure(failure: Failure, *, param: str | None = None) -> Problem:
    """Return the answer to a request that waited for a job which failed.

    Args:
        failure: the job's.
        param: the part of the request that is to blame if the message is.
    """
    status = status_of(failure.code, retryable=failure.retryable)
    text = f"{failure.message}. {failure.remedy}" if failure.remedy else failure.message
    retry_after = RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return Problem(status, failure.code, text, param=param if status < 500 else None, retry_after=retry_after)


def answer(problem: Problem) -> JSONResponse:
    """Return a problem as an HTTP response.

    OpenAI's clients read `x-should-retry`; without it they repeat a message after any 5xx.
    """
    kind = TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    detail = {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}
    headers = {"x-should-retry": "true" if problem.retry_after is not None else "false"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after + 0.5)))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": detail}, problem.status, headers)


def install(app: FastAPI) -> None:
    """Answer every expected error of the application in this shape; access.py answers the unexpected ones."""

    @app.exception_handler(Problem)
    async def _problem(_request: Request, error: Problem) -> JSONResponse:
        return answer(error)

    @app.exception_handler(JobError)
    async def _job_error(_request: Request, error: JobError) -> JSONResponse:
        if error.code is ErrorCode.REDIS_UNAVAILABLE:  # its message names where Redis is, which is no client's business
            log.warning("Redis unavailable", error=error.message)
            return answer(of_error(error.code, "Redis cannot be used"))
        return answer(of_error(error.code, error.message))

    @app.exception_handler(UnknownJob)
    async def _unknown(_request: Request, error: UnknownJob) -> JSONResponse:
        return answer(Problem(404, "unknown_job", str(error), param="job_id"))

    @app.exception_handler(redis.exceptions.OutOfMemoryError)
    async def _out_of_memory(_request: Request, _error: redis.RedisError) -> JSONResponse:
        return answer(of_error(ErrorCode.SYSTEM_FULL, "Redis has no memory left"))

    @app.exception_handler(redis.RedisError)
    async def _redis(_request: Request, error: redis.RedisError) -> JSONResponse:
        log.warning("Redis unavailable", error=f"{type(error).__name__}: {error}")
        return answer(of_error(ErrorCode.REDIS_UNAVAILABLE, f"Redis cannot be used: {type(error).__name__}"))

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
