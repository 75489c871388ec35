"""One POST to a receiver: only to permitted hosts, within a time limit, without following redirects."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, Url, make_headers, parse_url

from config.settings import Settings
from pipeline.network import addresses, pools
from pipeline.network.pools import Watch
from voicemill.errors import ErrorCode, JobError

DOWN = frozenset({429, 502, 503, 504})  # statuses with which a server rejects all requests for now
# The address check raises codes of sources. These are their counterparts for webhooks.
_COUNTERPARTS = {ErrorCode.SOURCE_FORBIDDEN: ErrorCode.WEBHOOK_FORBIDDEN}


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer to a delivery; `error` is None if it accepted it."""

    seconds: float  # until it answered
    status: int | None = None  # of HTTP; None: it did not answer
    error: JobError | None = None

    @property
    def health(self) -> str:
        """The receiver's health, as the outbox names it."""
        if self.error is None:
            return "ok"
        return "answered" if self.status is not None and self.status not in DOWN else "down"


def post(url: str, body: bytes, headers: dict[str, str], settings: Settings) -> Answer:
    """POST `body` once. Of the answer only the head is read."""
    began = time.monotonic()
    limit = settings.webhook_timeout
    watch = Watch(limit)
    status, error = None, None
    try:
        where = _parsed(url, settings)
        with _translated(limit, watch):
            status, asked = _request(where, body, headers, settings, watch)
        error = _refusal(status, asked)
    except JobError as raised:
        error = raised
    finally:
        watch.stop()
    return Answer(time.monotonic() - began, status, error)


def _parsed(url: str, settings: Settings) -> Url:
    if not url.isprintable() or " " in url:
        raise JobError(ErrorCode.WEBHOOK_FORBIDDEN, "the URL contains blanks or control characters")
    try:
        where = parse_url(url)
    except LocationParseError:
        raise JobError(ErrorCode.WEBHOOK_FORBIDDEN, "the URL is invalid") from None
    if where.scheme not in ("http", "https") or not where.host or where.port == 0:
        raise JobError(ErrorCode.WEBHOOK_FORBIDDEN, "the URL is not an https:// URL")
    if where.scheme == "http" and not settings.webhook_allow_http:
        raise JobError(ErrorCode.WEBHOOK_FORBIDDEN, "http:// is refused: use https://, or set WEBHOOK_ALLOW_HTTP")
    return where


def _request(
    where: Url, body: bytes, headers: dict[str, str], settings: Settings, watch: Watch
) -> tuple[int, float | None]:
    """Return the status of the answer, and the seconds that it asks to wait."""
    plain = {"Content-Type": "application/json", "User-Agent": "voicemill", "Connection": "close"}
    sent = {**plain, **make_headers(basic_auth=where.auth), **headers}
    check = partial(addresses.checked, rules=addresses.webhook_policy(settings))
    timeout = Timeout(connect=max(0.01, watch.left), read=max(0.01, watch.left))
    pool = pools.pool(where, timeout, check, watch)
    try:
        response = pool.urlopen(
            "POST", where.request_uri, body=body, headers=sent, redirect=False, retries=False, preload_content=False
        )
        with contextlib.closing(response):
            if watch.left <= 0:  # the head may have ended because the watch shut the connection down
                raise ReadTimeoutError(pool, where.request_uri, "")
            return response.status, pools.retry_after(response.headers)
    finally:
        pool.close()


def _refusal(status: int, retry_after: float | None) -> JobError | None:
    if 200 <= status < 300:
        return None
    if status == 410:
        return JobError(ErrorCode.WEBHOOK_GONE, "the receiver answers 410: it wants no more events")
    if 300 <= status < 400:
        return JobError(ErrorCode.WEBHOOK_REDIRECTED, f"the receiver answers {status}: redirects are not followed")
    return JobError(ErrorCode.WEBHOOK_REFUSED, f"the receiver answers {status}", retry_after=retry_after)


@contextlib.contextmanager
def _translated(limit: float, watch: Watch) -> Iterator[None]:
    """Translate exceptions of urllib3 and of the address check."""
    late = JobError(ErrorCode.WEBHOOK_TIMEOUT, f"the receiver has not answered within {limit:g} s")
    try:
        yield
    except JobError as error:
        raise JobError(_COUNTERPARTS.get(error.code, ErrorCode.WEBHOOK_UNREACHABLE), error.message) from None
    except SSLError as error:
        reason = getattr(error.args[0], "verify_message", None) if error.args else None
        if reason:
            raise JobError(
                ErrorCode.WEBHOOK_UNTRUSTED, f"the receiver's certificate is not trusted: {reason}"
            ) from None
        raise (
            late if watch.left <= 0 else JobError(ErrorCode.WEBHOOK_UNREACHABLE, "the TLS handshake failed")
        ) from None
    except NewConnectionError as error:  # a subclass of ConnectTimeoutError
        reason = str(error).rpartition(": ")[2]
        raise JobError(ErrorCode.WEBHOOK_UNREACHABLE, f"the receiver cannot be reached: {reason}") from None
    except (ConnectTimeoutError, ReadTimeoutError):
        raise late from None
    except (HTTPError, ValueError) as error:  # some of http.client's own errors are ValueErrors
        kind = type(error).__name__
        broken = JobError(ErrorCode.WEBHOOK_UNREACHABLE, f"the receiver's answer is broken or not HTTP ({kind})")
        raise late if watch.left <= 0 else broken from None
