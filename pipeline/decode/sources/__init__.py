"""Fetch voice messages: one module for each kind of source, each of which returns an open file within the limits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from config.settings import Settings
from pipeline.decode.sources import inline, local, remote, uploads
from voicemill.errors import ErrorCode, JobError
from voicemill.store.audio import AudioStore


@dataclass(frozen=True, slots=True)
class Fetched:
    """An open file on the worker's disk, which is never opened again by its name, and its size in bytes."""

    file: BufferedReader
    size: int

    def fingerprint(self) -> str:
        """Return the SHA-256 of its bytes in hexadecimal, which identifies the same message if it is sent again."""
        self.file.seek(0)
        digest = hashlib.file_digest(self.file, "sha256").hexdigest()
        self.file.seek(0)
        return digest


@contextmanager
def fetch(source: str, folder: Path, settings: Settings, uploaded: AudioStore | None = None) -> Iterator[Fetched]:
    """Open a source; one that is not on this machine is fetched into `folder` first.

    Raises:
        JobError: `source_unsupported`, `source_forbidden`, `source_not_found`, `source_too_large`, `empty_source`, ...
    """
    with _open(source, folder, settings, uploaded) as file:
        size = os.fstat(file.fileno()).st_size
        if size > settings.max_source_bytes:
            raise JobError(
                ErrorCode.SOURCE_TOO_LARGE, f"it has {size} bytes, MAX_SOURCE_BYTES is {settings.max_source_bytes}"
            )
        if not size:
            raise JobError(ErrorCode.EMPTY_SOURCE, "it has no bytes")
        yield Fetched(file, size)


def _open(source: str, folder: Path, settings: Settings, uploaded: AudioStore | None) -> BufferedReader:
    try:
        source.encode()
    except UnicodeEncodeError:  # JSON may contain lone surrogates, which no path or URL can
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the source is not text") from None
    scheme, colon, _ = source.partition(":")
    match scheme.lower() if colon else "":
        case "upload":
            return uploads.fetch(uploaded, source, folder, settings.max_source_bytes)
        case "data":
            return inline.fetch(source, folder, settings.max_source_bytes)
        case "http" | "https":
            from pipeline.decode.sources import web  # noqa: PLC0415 - only these need urllib3

            return web.fetch(source, folder, settings)
        case "file":
            return local.open_path(local.path_of(source), settings.media_root)
    if "://" in source or "::" in source:
        return remote.fetch(source, folder, settings)
    return local.open_path(source, settings.media_root)
