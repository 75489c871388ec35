"""Tells Gemini's failures apart: which code each one is, whether it is worth another try, and when."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.enrich.gemini import Refusal, Reply
from pipeline.enrich.neutral import visible
from voicemill.errors import ErrorCode, JobError

PACIFIC = timedelta(hours=-8)  # Google renews the day's quota at midnight there; in summer an hour before
MESSAGE = 200  # characters of Google's own words that go into a job record
MODELS = 2000  # the same of the names of its models

_KEY = re.compile(r"AIza[\w-]+|(?<=api_key:)[^\s'\"]+")  # Google names a suspended key in full

# As Google writes durations: 2.5s, 850.1ms, 1h2m3.5s
_DURATION = re.compile(
    r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?", re.ASCII
)
_RETRY_IN = re.compile(r"retry in " + _DURATION.pattern, re.ASCII)

MALFORMED = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE")  # the model slipped; no filter
BY_STATUS = {
    401: "enrich_invalid_key",
    403: "enrich_forbidden",
    404: "enrich_unknown_model",
    408: "enrich_timeout",
    504: "enrich_timeout",
}
WHOLE = ("STOP", "FINISH_REASON_UNSPECIFIED", "")


def of_refusal(refusal: Refusal) -> JobError:
    """Return the error that a refused or failed request is."""
    said = words(_KEY.sub("********", refusal.message))[:MESSAGE].rstrip(". ")
    if refusal.kind == "timeout":
        return JobError(ErrorCode.ENRICH_TIMEOUT, "Gemini did not answer within GEMINI_TIMEOUT")
    if refusal.kind != "answered":
        return JobError(ErrorCode.ENRICH_UNAVAILABLE, said)
    if refusal.status == 429:
        return _of_quota(refusal, said)
    code = _code(refusal, said)
    return JobError(code, said, retry_after=_delay(refusal) if ErrorCode(code).retryable else None)


def words(text: str) -> str:
    """Return what a server said as one line of what can be seen: it ends up in records and on terminals."""
    return " ".join(visible(text).split())


def of_reply(reply: Reply) -> JobError | None:
    """Return the error that an answer is which holds no whole document; None: it holds one."""
    if reply.blocked:
        return JobError(ErrorCode.ENRICH_BLOCKED, f"Gemini refused the prompt: {reply.blocked}")
    if reply.finish == "RECITATION":
        return JobError(ErrorCode.ENRICH_RECITATION, "Gemini broke off its answer: it recited a text of others")
    if reply.finish == "MAX_TOKENS":
        return JobError(ErrorCode.ENRICH_TRUNCATED, f"Gemini's answer was cut off after {reply.output_tokens} tokens")
    if reply.finish not in WHOLE:
        code = "enrich_empty" if reply.finish in MALFORMED else "enrich_blocked"
        return JobError(code, f"Gemini broke off its answer: {reply.finish}")
    if not reply.text.strip():
        return JobError(ErrorCode.ENRICH_EMPTY, f"Gemini's answer is empty: {reply.finish or 'no candidate'}")
    return None


def is_outage(error: JobError) -> bool:
    """Whether a failure says that Gemini itself is in trouble, and not with this request alone."""
    return error.code in ("enrich_unavailable", "enrich_timeout")


def until_midnight(now: datetime | None = None) -> float:
    """Return the seconds until the day's quota is renewed."""
    pacific = (now or datetime.now(UTC)).astimezone(UTC) + PACIFIC
    midnight = (pacific + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - pacific).total_seconds()


def _code(refusal: Refusal, said: str) -> str:
    """Return the code of an HTTP error other than 429."""
    if _reason(refusal) in ("API_KEY_INVALID", "API_KEY_EXPIRED") or "API key not valid" in said:
        return "enrich_invalid_key"
    if refusal.body.get("status") == "FAILED_PRECONDITION":  # the region, or billing
        return "enrich_forbidden"
    return BY_STATUS.get(refusal.status, "enrich_unavailable" if refusal.status >= 500 else "enrich_invalid_request")


def _of_quota(refusal: Refusal, said: str) -> JobError:
    if any("PerDay" in str(detail.get("violations")) for detail in _details(refusal, "QuotaFailure")):
        return JobError(ErrorCode.ENRICH_QUOTA_EXHAUSTED, said, retry_after=until_midnight())
    return JobError(ErrorCode.ENRICH_RATE_LIMITED, said, retry_after=_delay(refusal))


def _delay(refusal: Refusal) -> float | None:
    """Return the seconds after which Gemini wants to be asked again, by its details or its words; None: not said."""
    delays = [str(detail.get("retryDelay", "")) for detail in _details(refusal, "RetryInfo")]
    match = _DURATION.fullmatch(delays[0]) if delays else _RETRY_IN.search(refusal.message)
    if match is None:
        return None
    hours, minutes, seconds, milliseconds = (float(match[unit] or 0) for unit in ("h", "m", "s", "ms"))
    return (hours * 3600 + minutes * 60 + seconds + milliseconds / 1000) or None


def _reason(refusal: Refusal) -> str:
    return next((str(detail.get("reason", "")) for detail in _details(refusal, "ErrorInfo")), "")


def _details(refusal: Refusal, kind: str) -> list[dict[str, Any]]:
    details = refusal.body.get("details")
    return [
        detail
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(f".{kind}")
    ]
