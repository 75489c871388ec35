"""Google's Gemini, whichever SDK speaks to it: options, schema dialect, prices and the classification of failures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from config.settings import Settings
from pipeline.enrich.providers import prices
from pipeline.enrich.providers.base import (
    ErrorKind,
    ModelReply,
    NotConfigured,
    Price,
    Provider,
    ProviderCapabilities,
    ProviderError,
    ProviderOptions,
)
from pipeline.enrich.providers.transport import OversizedAnswer, read_bounded
from pipeline.network.deadline import within

Result = TypeVar("Result")

TEMPERATURE = 0.2  # summaries are to be faithful, not varied
MAX_TOKENS = 2**21  # of one request; no model takes more
PREFIX = "models/"  # that resource names have and people leave out

# Keywords that Google takes as they are, beside those that `translate_schema` rewrites; it refuses all others.
SCHEMA_WORDS = ("format", "description", "required", "minItems", "maxItems")
FORMATS = ("float", "double", "int32", "int64", "enum", "date-time")  # others are refused

PACIFIC = timedelta(hours=-8)  # Google renews the day's quota at midnight there; in summer an hour before
COMPLETE = ("STOP", "FINISH_REASON_UNSPECIFIED", "")  # finish reasons of a whole answer
MALFORMED = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE")  # the model's slip, not a filter
BY_STATUS = {
    401: ErrorKind.INVALID_KEY,
    403: ErrorKind.FORBIDDEN,
    404: ErrorKind.UNKNOWN_MODEL,
    408: ErrorKind.TIMEOUT,
    504: ErrorKind.TIMEOUT,
}

_KEY = re.compile(r"AIza[\w-]+|(?<=api_key:)[^\s'\"]+")  # Google names a suspended key in full
# As Google writes durations: 2.5s, 850.1ms, 1h2m3.5s
_DURATION = re.compile(
    r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?(?:(?P<s>\d+(?:\.\d+)?)s)?(?:(?P<ms>\d+(?:\.\d+)?)ms)?", re.ASCII
)
_RETRY_IN = re.compile(r"retry in " + _DURATION.pattern, re.ASCII)


class GeminiProvider(Provider):
    """Gemini without the SDK: a subclass makes the requests."""

    name = "Gemini"
    capabilities = ProviderCapabilities(json_schema=True, counts_tokens=True, context_tokens=MAX_TOKENS)

    def __init__(self, settings: Settings) -> None:
        if settings.gemini_api_key is None:
            raise NotConfigured("GEMINI_API_KEY is unset: enrichment needs a key")
        self._key = settings.gemini_api_key.get_secret_value()
        self._endpoint = settings.gemini_endpoint
        self._timeout = settings.gemini_timeout
        self.options = ProviderOptions(
            model=self.model_id(settings.gemini_model),
            max_output_tokens=settings.gemini_max_output_tokens,
            requests_per_minute=settings.gemini_requests_per_minute,
            tokens_per_minute=settings.gemini_tokens_per_minute,
        )

    def model_id(self, name: str) -> str:
        """Return the name without the prefix that Google's lists have."""
        return name.removeprefix(PREFIX)

    def price(self, model: str) -> Price | None:
        """Return the price of a model, by `config/prices.toml`."""
        return prices.price(model)

    def translate_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema as `responseSchema` takes it, a subset of OpenAPI's."""
        return translate_schema(schema)

    def _within_timeout(self, request: Callable[[], Result]) -> Result:
        """Return what a request returns; neither a slow name server nor a dribbling one holds it up for longer.

        Raises:
            ProviderError: the time is over.
        """
        try:
            return within(self._timeout, request)
        except TimeoutError:
            raise timed_out() from None

    def _read(self, status: int, pieces: Iterable[bytes]) -> bytes:
        """Return the body of an answer, before the SDK, which has no bounds and trips over foreign errors, reads it.

        Raises:
            ProviderError: it is an error, or not an answer of Gemini's.
        """
        try:
            body = read_bounded(pieces, self._timeout)
        except OversizedAnswer:
            raise invalid_answer("the answer is longer than any of Gemini's") from None
        except TimeoutError:
            raise timed_out() from None
        check_answer(status, body)
        return body


def translate_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema in Google's dialect: types in capitals, `nullable`, few formats."""
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    (kind,) = (kind for kind in kinds if kind != "null")
    translated = {"type": kind.upper()} | {word: schema[word] for word in SCHEMA_WORDS if word in schema}
    if len(kinds) > 1:
        translated["nullable"] = True
    if "format" in translated and translated["format"] not in FORMATS:  # the answer is held to it all the same
        translated["description"] = f"{translated.get('description', '')} Format: {translated.pop('format')}".strip()
    if "enum" in schema:
        translated["enum"] = [word for word in schema["enum"] if word is not None]
    if "properties" in schema:
        translated["properties"] = {name: translate_schema(inner) for name, inner in schema["properties"].items()}
    if "items" in schema:
        translated["items"] = translate_schema(schema["items"])
    return translated


def timed_out() -> ProviderError:
    """Return the error of a request without an answer in time."""
    return ProviderError(ErrorKind.TIMEOUT, "Gemini did not answer within GEMINI_TIMEOUT")


def unreachable() -> ProviderError:
    """Return the error of an address where nothing listens."""
    return ProviderError(ErrorKind.UNAVAILABLE, "cannot connect to Gemini's address", unreachable=True)


def connection_lost() -> ProviderError:
    """Return the error of a connection that broke off."""
    return ProviderError(ErrorKind.UNAVAILABLE, "the connection to Gemini was lost")


def invalid_answer(message: str = "the answer is not one of Gemini's") -> ProviderError:
    """Return the error of an answer that some other server gave, such as a proxy."""
    return ProviderError(ErrorKind.UNAVAILABLE, message)


def check_answer(status: int, body: bytes) -> None:
    """Raise the error that an HTTP answer is, if it is one.

    Redirects are not followed: the SDKs would take key and transcript along to wherever they lead.

    Raises:
        ProviderError: the status is not a success, or the body is not JSON.
    """
    if 300 <= status < 400:
        raise invalid_answer(f"Gemini's address redirects to another (HTTP {status}), which is not followed")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if status >= 400:
        raise classify(status, document)
    if not isinstance(document, dict):
        raise invalid_answer()


def classify(status: int, body: Any) -> ProviderError:
    """Return the error that an HTTP error is.

    Args:
        status: of HTTP, 400 or above.
        body: its JSON; anything where it is not Google's own.
    """
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else {}
    message = _KEY.sub("********", str(error.get("message") or f"HTTP {status}"))
    if status != 429:
        return ProviderError(_kind(status, error, message), message, retry_after=_retry_after(error))
    if any("PerDay" in str(detail.get("violations")) for detail in _details(error, "QuotaFailure")):
        return ProviderError(ErrorKind.QUOTA_EXHAUSTED, message, retry_after=seconds_until_renewal())
    return ProviderError(ErrorKind.RATE_LIMITED, message, retry_after=_retry_after(error))


def reply(
    text: str, *, finish: str, blocked: str, model: str, input_tokens: int | None, output_tokens: int | None
) -> ModelReply:
    """Return the reply that an answer is.

    Args:
        text: of the first candidate, without its thoughts.
        finish: the first candidate's `finishReason`; empty: there is no candidate, or it has none.
        blocked: `blockReason` of `promptFeedback`; empty: not blocked.
        model: `modelVersion`.
        input_tokens: as the answer counts them.
        output_tokens: the same, thoughts included.
    """
    used = tokens(output_tokens)
    return ModelReply(text, model, tokens(input_tokens), used, _reply_error(text, finish, blocked, used))


def tokens(count: int | None) -> int:
    """Return a plausible number of tokens: an absurd one would keep other jobs waiting for days."""
    return min(max(0, int(count or 0)), MAX_TOKENS)


def seconds_until_renewal(now: datetime | None = None) -> float:
    """Return the seconds until the day's quota is renewed."""
    pacific = (now or datetime.now(UTC)).astimezone(UTC) + PACIFIC
    midnight = (pacific + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - pacific).total_seconds()


def _reply_error(text: str, finish: str, blocked: str, output_tokens: int) -> ProviderError | None:
    """Return why an answer holds no complete document; None: it does."""
    if blocked:
        return ProviderError(ErrorKind.BLOCKED, f"Gemini refused the prompt: {blocked}")
    if finish == "RECITATION":
        return ProviderError(ErrorKind.RECITATION, "Gemini stopped its answer, which recited a published text")
    if finish == "MAX_TOKENS":
        return ProviderError(ErrorKind.TRUNCATED, f"Gemini's answer was cut off after {output_tokens} tokens")
    if finish not in COMPLETE:
        kind = ErrorKind.EMPTY if finish in MALFORMED else ErrorKind.BLOCKED
        return ProviderError(kind, f"Gemini stopped its answer: {finish}")
    if not text.strip():
        return ProviderError(ErrorKind.EMPTY, f"Gemini's answer is empty: {finish or 'no candidate'}")
    return None


def _kind(status: int, error: dict[str, Any], message: str) -> ErrorKind:
    """Return the kind of an HTTP error other than 429."""
    reason = next((str(detail.get("reason", "")) for detail in _details(error, "ErrorInfo")), "")
    if reason in ("API_KEY_INVALID", "API_KEY_EXPIRED") or "API key not valid" in message:
        return ErrorKind.INVALID_KEY
    if error.get("status") == "FAILED_PRECONDITION":  # the region, or billing
        return ErrorKind.FORBIDDEN
    return BY_STATUS.get(status, ErrorKind.UNAVAILABLE if status >= 500 else ErrorKind.INVALID_REQUEST)


def _retry_after(error: dict[str, Any]) -> float | None:
    """Return the seconds after which Google takes requests again, by its details or its message; None: not said."""
    delays = [str(detail.get("retryDelay", "")) for detail in _details(error, "RetryInfo")]
    match = _DURATION.fullmatch(delays[0]) if delays else _RETRY_IN.search(str(error.get("message") or ""))
    if match is None:
        return None
    hours, minutes, seconds, milliseconds = (float(match[unit] or 0) for unit in ("h", "m", "s", "ms"))
    return (hours * 3600 + minutes * 60 + seconds + milliseconds / 1000) or None


def _details(error: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    details = error.get("details")
    return [
        detail
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(f".{kind}")
    ]
