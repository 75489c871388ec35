"""Messages whose bytes a backend put into the handoff store with `voicemill.store.audio.upload`."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path

from pipeline.decode.sources.disk import save


def fetch(source: str, folder: Path, limit: int) -> BufferedReader:
    """Copy an upload into `folder` and open it.

    Raises:
        JobError: `source_not_found`: it was never uploaded, or has expired; `source_too_large`; `disk_full`.
    """
    store.audio.renew(source)
    return save(store.audio.read_upload(source), folder, limit)
