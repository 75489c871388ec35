"""Messages in object stores and other places that fsspec supports, under the prefixes of SOURCE_REMOTES."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from config.settings import Settings
from pipeline.decode.sources.disk import save
from pipeline.network.deadline import within
from voicemill.errors import ErrorCode, JobError

_PIECE = 1024**2  # bytes asked for at a time


def allowed(address: str, settings: Settings) -> bool:
    """Return whether a URL is under one of the permitted prefixes."""
    if "::" in address or "\0" in address or ".." in address.split("/"):  # chained file systems; path traversal
        return False
    prefixes = [prefix.rstrip("/") + "/" for prefix in settings.source_remotes.replace(",", " ").split()]
    return any(address.startswith(prefix) and len(address) > len(prefix) for prefix in prefixes)


def fetch(address: str, folder: Path, settings: Settings) -> BufferedReader:
    """Copy an object into `folder` and open it. Credentials come from the worker's environment.

    Raises:
        JobError: `source_forbidden`, `source_not_found`, `source_unsupported`: its package is not installed;
            `source_too_large`, `source_timeout`, `source_unavailable` or `disk_full`.
    """
    if not allowed(address, settings):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the URL is not under any prefix of SOURCE_REMOTES")
    import fsspec  # noqa: PLC0415 - an optional dependency

    limit = settings.fetch_timeout
    deadline = time.monotonic() + limit
    with _translated(deadline, limit):
        store, path = fsspec.url_to_fs(address)
        opening = partial(store.open, path, "rb", block_size=_PIECE)
        with within(limit, opening) as file:
            return save(_pieces(file, deadline, limit), folder, settings.max_source_bytes)


def _pieces(file: Any, deadline: float, limit: float) -> Iterator[bytes]:
    # Translated here, because `save` takes an OSError for the disk's.
    with _translated(deadline, limit):
        while piece := within(deadline - time.monotonic(), partial(file.read, _PIECE)):
            yield piece


@contextmanager
def _translated(deadline: float, limit: float) -> Iterator[None]:
    """Translate the stores' exceptions."""
    try:
        yield
    except JobError:
        raise
    except (ImportError, ValueError) as error:
        raise JobError(ErrorCode.SOURCE_UNSUPPORTED, f"this worker cannot read such URLs: {error}") from None
    except (FileNotFoundError, IsADirectoryError):
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the store has no such object") from None
    except PermissionError:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the store rejects this worker's credentials") from None
    except Exception as error:  # each store has its own exceptions
        if time.monotonic() >= deadline:
            raise JobError(ErrorCode.SOURCE_TIMEOUT, f"fetching took longer than {limit:g} s") from None
        raise JobError(ErrorCode.SOURCE_UNAVAILABLE, f"the store cannot be read: {type(error).__name__}") from error
