"""Voice messages that a backend uploaded to the handoff store."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path

from pipeline.decode.sources.disk import save
from voicemill.errors import ErrorCode, JobError
from voicemill.store.audio import AudioStore


def fetch(uploads: AudioStore | None, source: str, folder: Path, limit: int) -> BufferedReader:
    """Copy an upload into `folder` and open it.

    Raises:
        JobError: `source_not_found`: it was never uploaded, or has expired; `source_too_large`; `disk_full`.
    """
    if uploads is None:
        raise JobError(ErrorCode.SOURCE_UNSUPPORTED, "this worker has no handoff store to read an upload from")
    uploads.renew(source)
    return save(uploads.read_upload(source), folder, limit)
