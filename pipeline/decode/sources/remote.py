"""Messages in object stores and whatever else fsspec speaks: `s3://`, `gs://`, under the prefixes of SOURCE_REMOTES."""

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
    """Tell whether an address lies under one of the prefixes that the operator allows."""
    if "::" in address or "\0" in address or ".." in address.split("/"):  # a chain of file systems; a way out
        return False
    prefixes = [prefix.rstrip("/") + "/" for prefix in settings.source_remotes.replace(",", " ").split()]
    return any(address.startswith(prefix) and len(address) > len(prefix) for prefix in prefixes)


def fetch(address: str, folder: Path, settings: Settings) -> BufferedReader:
    """Copy an object into `folder` and open it. Its store's credentials are those of the worker's environment.

    Raises:
        JobError: `source_forbidden`, `source_not_found`, `source_unsupported`: its package is not installed;
            `source_too_large`, `source_timeout`, `source_unavailable` or `disk_full`.
    """
    if not allowed(address, settings):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the address lies outside the prefixes of SOURCE_REMOTES")
    import fsspec  # noqa: PLC0415 - an extra that only such sources need

    limit = settings.fetch_timeout
    deadline = time.monotonic() + limit
    with _translated(deadline, limit):
        store, path = fsspec.url_to_fs(address)
        opening = partial(store.open, path, "rb", block_size=_PIECE)
        with within(limit, opening) as file:
            return save(_pieces(file, deadline, limit), folder, settings.max_source_bytes)


def _pieces(file: Any, deadline: float, limit: float) -> Iterator[bytes]:
    # Translated here, since to `save` an OSError is the disk's.
    with _translated(deadline, limit):
        while piece := within(deadline - time.monotonic(), partial(file.read, _PIECE)):
            yield piece


@contextmanager
def _translated(deadline: float, limit: float) -> Iterator[None]:
    """Turn the stores' exceptions into ours."""
    try:
        yield
    except JobError:
        raise
    except (ImportError, ValueError) as error:
        raise JobError(ErrorCode.SOURCE_UNSUPPORTED, f"this worker cannot read such addresses: {error}") from None
    except (FileNotFoundError, IsADirectoryError):
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the store has no such object") from None
    except PermissionError:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the store refuses this worker's credentials") from None
    except Exception as error:  # each store has exceptions of its own, and none of them is this program's fault
        if time.monotonic() >= deadline:
            raise JobError(ErrorCode.SOURCE_TIMEOUT, f"fetching took longer than {limit:g} s") from None
        raise JobError(ErrorCode.SOURCE_UNAVAILABLE, f"the store cannot be read: {type(error).__name__}") from error
