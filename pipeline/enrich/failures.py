"""Tells Gemini's failures apart: which code each one is, whether it is worth another try, and when."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.enrich.gemini import Refusal, Reply
from pipeline.errors import JobError

PACIFIC = timedelta(hours=-8)  # Google renews the day's quota at midnight there; in summer an hour before
MESSAGE = 200  # characters of Google's own words that go into a job record

_KEY = re.compile(r"AIza[\w-]+|(?<=api_key:)[^\s'\"]+")  # Google names a suspended key in full

BLOCKED = ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "IMAGE_SAFETY", "OTHER", "LANGUAGE")
WHOLE = ("STOP", "FINISH_REASON_UNSPECIFIED", "")


def of_refusal(refusal: Refusal) -> JobError:
    """Return the error that a refused or failed request is."""
    said = _KEY.sub("********", refusal.message)[:MESSAGE]
    if refusal.kind == "timeout":
        return JobError("enrich_timeout", "Gemini did not answer within GEMINI_TIMEOUT")
    if refusal.kind != "answered":
        return JobError("enrich_unavailable", said)
    status, name = refusal.status, str(refusal.body.get("status", ""))
    if status == 429:
        return _of_quota(refusal, said)
    if status == 401 or _reason(refusal) in ("API_KEY_INVALID", "API_KEY_EXPIRED") or "API key not valid" in said:
        return JobError("enrich_invalid_key", said)
    if status == 403 or name == "FAILED_PRECONDITION":
        return JobError("enrich_forbidden", said)
    if status == 404:
        return JobError("enrich_unknown_model", said)
    if status in (408, 504):
        return JobError("enrich_timeout", said)
    if status >= 500:
        return JobError("enrich_unavailable", said)
    return JobError("enrich_invalid_request", said)


def of_reply(reply: Reply) -> JobError | None:
    """Return the error that an answer is which holds no whole document; None: it holds one."""
    if reply.blocked:
        return JobError("enrich_blocked", f"Gemini refused the prompt: {reply.blocked}")
    if reply.finish in BLOCKED:
        return JobError("enrich_blocked", f"Gemini broke off its answer: {reply.finish}")
    if reply.finish == "RECITATION":
        return JobError("enrich_recitation", "Gemini broke off its answer: it recited a text of others")
    if reply.finish == "MAX_TOKENS":
        return JobError("enrich_truncated", f"Gemini's answer was cut off after {reply.output_tokens} tokens")
    if not reply.text.strip():
        return JobError("enrich_empty", f"Gemini's answer is empty: {reply.finish or 'no candidate'}")
    if reply.finish not in WHOLE:
        return JobError("enrich_blocked", f"Gemini broke off its answer: {reply.finish}")
    return None


def is_outage(error: JobError) -> bool:
    """Whether a failure says that Gemini itself is in trouble, and not with this request alone."""
    return error.code in ("enrich_unavailable", "enrich_timeout")


def until_midnight(now: datetime | None = None) -> float:
    """Return the seconds until the day's quota is renewed."""
    pacific = (now or datetime.now(UTC)).astimezone(UTC) + PACIFIC
    midnight = (pacific + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - pacific).total_seconds()


def _of_quota(refusal: Refusal, said: str) -> JobError:
    violations = [item for detail in _details(refusal, "QuotaFailure") for item in detail.get("violations", ())]
    if any("PerDay" in str(violation.get("quotaId", "")) for violation in violations):
        return JobError("enrich_quota_exhausted", said, retry_after=until_midnight())
    delays = [str(detail.get("retryDelay", "")) for detail in _details(refusal, "RetryInfo")]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)s", delays[0]) if delays else re.search(r"retry in (\d+(?:\.\d+)?)s", said)
    return JobError("enrich_rate_limited", said, retry_after=float(match[1]) if match else None)


def _reason(refusal: Refusal) -> str:
    return next((str(detail.get("reason", "")) for detail in _details(refusal, "ErrorInfo")), "")


def _details(refusal: Refusal, kind: str) -> list[dict[str, Any]]:
    details = refusal.body.get("details")
    return [
        detail
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(f".{kind}")
    ]
