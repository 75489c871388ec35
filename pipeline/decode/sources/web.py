"""Voice messages at `https://` and `http://` URLs: streamed to disk, resumed after a lost connection, never trusted."""

from __future__ import annotations

import base64
import contextlib
import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, Url, parse_url

from config.settings import Settings
from pipeline.network import addresses, pools
from pipeline.network.pools import Watch
from voicemill.errors import ErrorCode, JobError

REDIRECTS = 5  # followed for one message
ATTEMPTS = 4  # at one message, over lost connections and busy servers
FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled before each further one
LONGEST_PAUSE = 20.0  # seconds that a worker waits at a server's request; for longer ones the job is queued again
_PIECE = 64 * 1024  # bytes read at a time
_MOVED = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Lost(Exception):
    """The connection broke, or the server is busy: another attempt may succeed. `after`: seconds it asked to wait."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


@dataclass(slots=True)
class _Download:
    """The state of a download between attempts."""

    path: Path
    settings: Settings
    check: addresses.Check
    watch: Watch
    size: int = 0  # bytes on disk
    validator: str | None = None  # proves that the rest is of the same file: a strong ETag, or a date

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.watch.left


def fetch(url: str, folder: Path, settings: Settings, check: addresses.Check | None = None) -> BufferedReader:
    """Download a URL into `folder` and open the file.

    Args:
        url: `https://` or `http://`.
        folder: of the job.
        settings: limits, and which hosts are permitted.
        check: resolves a host and checks its addresses; None: as the settings say.

    Raises:
        JobError: `source_forbidden`, `source_not_found`, `source_too_large`, `source_unavailable`, `source_timeout`,
            `source_untrusted`, `source_unsupported` or `disk_full`.
    """
    check = check or partial(addresses.checked, rules=addresses.policy(settings))
    download = _Download(folder / "source", settings, check, Watch(settings.fetch_timeout))
    try:
        _attempts(url, download)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise JobError(ErrorCode.DISK_FULL, "no space is left to fetch the source") from error
        raise JobError(ErrorCode.SOURCE_UNREADABLE, f"the source cannot be stored: {error.strerror}") from error
    finally:
        download.watch.stop()
    return download.path.open("rb")


def _attempts(url: str, download: _Download) -> None:
    download.path.touch()
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _follow(url, download)
        except _Lost as lost:
            if download.left <= 0:
                raise _too_slow(download) from None
            wait = max(pause, lost.after or 0.0)
            if attempt == ATTEMPTS or wait > min(LONGEST_PAUSE, download.left):
                raise JobError(ErrorCode.SOURCE_UNAVAILABLE, str(lost), retry_after=lost.after) from None
            time.sleep(wait)
            pause *= 2
        else:
            return


def _too_slow(download: _Download) -> JobError:
    return JobError(ErrorCode.SOURCE_TIMEOUT, f"fetching took longer than {download.settings.fetch_timeout:g} s")


def _follow(url: str, download: _Download) -> None:
    """Fetch `url` through its redirects. Credentials in it go to its own server and no other."""
    first = where = _parsed(url, download.settings)
    for _ in range(REDIRECTS + 1):
        auth = first.auth if _origin(where) == _origin(first) else None
        moved = _request(where, auth, download)
        if moved is None:
            return
        where = _parsed(_joined(where.url, moved), download.settings)
        if first.scheme == "https" and where.scheme != "https":
            raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the server redirects from https to http")
    raise JobError(ErrorCode.SOURCE_NOT_FOUND, f"the server redirects more than {REDIRECTS} times")


def _joined(base: str, moved: str) -> str:
    try:
        return urljoin(base, moved)
    except ValueError:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the server redirects to an invalid URL") from None


def _parsed(url: str, settings: Settings) -> Url:
    if not url.isprintable() or " " in url:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the URL contains blanks or control characters")
    try:
        where = parse_url(url)
    except LocationParseError:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the URL is invalid") from None
    if where.scheme not in ("http", "https"):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the server redirects to a URL that is neither https nor http")
    if where.scheme == "http" and not settings.source_allow_http:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "http:// is refused: use https://, or set SOURCE_ALLOW_HTTP")
    if not where.host or where.port == 0:
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the URL names no host")
    return where


def _origin(where: Url) -> tuple[str | None, str | None, int | None]:
    return where.scheme, where.host, where.port or {"http": 80, "https": 443}.get(where.scheme or "")


def _request(where: Url, auth: str | None, download: _Download) -> str | None:
    """Make one request and write its body to disk. Return where it redirects to, or None."""
    settings = download.settings
    headers = {"Accept-Encoding": "identity", "User-Agent": "voicemill"}
    if auth:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote_to_bytes(auth)).decode()}"
    if download.size and download.validator:
        headers |= {"Range": f"bytes={download.size}-", "If-Range": download.validator}
    timeout = Timeout(
        connect=max(0.01, min(settings.fetch_connect_timeout, download.left)),
        read=max(0.01, min(settings.fetch_read_timeout, download.left)),
    )
    pool = pools.pool(where, timeout, download.check, download.watch)
    try:
        with _translated(download):
            response = pool.urlopen(
                "GET", where.request_uri, headers=headers, redirect=False, retries=False, preload_content=False
            )
            with contextlib.closing(response):
                return _receive(response, download)
    finally:
        pool.close()


@contextlib.contextmanager
def _translated(download: _Download) -> Iterator[None]:
    """Translate urllib3's exceptions."""
    try:
        yield
    except SSLError as error:
        reason = getattr(error.args[0], "verify_message", None) if error.args else None
        if reason:
            raise JobError(ErrorCode.SOURCE_UNTRUSTED, f"the server's certificate is not trusted: {reason}") from None
        raise _Lost("the TLS handshake with the server failed") from None
    except NewConnectionError:  # a subclass of ConnectTimeoutError
        raise _Lost("the server cannot be reached") from None
    except (ConnectTimeoutError, ReadTimeoutError):
        raise (_too_slow(download) if download.left <= 0 else _Lost("the server does not answer in time")) from None
    except IncompleteRead:
        raise _Lost("the server closed the connection before the end") from None
    except (HTTPError, ValueError) as error:  # some of http.client's own errors are ValueErrors
        raise _Lost(f"the server's answer is broken or not HTTP ({type(error).__name__})") from None


def _receive(response: urllib3.BaseHTTPResponse, download: _Download) -> str | None:
    status = response.status
    if status in _MOVED and "Location" in response.headers:
        return str(response.headers["Location"])
    if status in _BUSY:
        raise _Lost(f"the server answers {status}", pools.retry_after(response.headers))
    if status in (401, 403, 407, 451):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, f"the server refuses access: it answers {status}")
    if status == 416 and download.size:  # the requested rest does not exist: start again
        download.validator = None
        raise _Lost("the server answers 416")
    if status not in (200, 206):
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, f"the server answers {status}")
    if status == 206 and not _continues(response, download.size):
        download.validator = None
        raise _Lost("the server sent another range than requested")
    if status == 200:
        download.size = 0
    _store(response, download)
    return None


def _store(response: urllib3.BaseHTTPResponse, download: _Download) -> None:
    limit = download.settings.max_source_bytes
    download.validator = _validator(response)
    with download.path.open("r+b") as file:
        file.truncate(download.size)
        file.seek(download.size)
        while piece := response.read1(_PIECE, decode_content=False):
            download.size += len(piece)
            if download.size > limit:
                raise JobError(ErrorCode.SOURCE_TOO_LARGE, f"it has more than {limit} bytes, which is MAX_SOURCE_BYTES")
            file.write(piece)
            if download.left <= 0:
                raise _too_slow(download)
    if download.left <= 0:  # the body may have ended because the watch shut the connection down
        raise _too_slow(download)


def _validator(response: urllib3.BaseHTTPResponse) -> str | None:
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return response.headers.get("Last-Modified")


def _continues(response: urllib3.BaseHTTPResponse, size: int) -> bool:
    unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
    start = rest.partition("-")[0].strip()
    return unit.lower() == "bytes" and start.isdecimal() and start.isascii() and int(start[:20]) == size > 0
