"""A job's recording for the player: what the handoff store still has of it, in the ranges that browsers request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from voicemill import Job
from voicemill.store import Store
from voicemill.store.jobs import UPLOAD

# By FFmpeg's name of the container, with which `audio.container` begins.
TYPES = {
    "ogg": "audio/ogg",
    "mov": "audio/mp4",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "matroska": "audio/webm",
    "aac": "audio/aac",
}
UNKNOWN = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording in the handoff store."""

    chunks: Iterator[bytes]  # raises JobError once they are read, if the recording has gone meanwhile
    media_type: str
    size: int | None  # bytes; None: unknown before they are read


def find(store: Store, job: Job) -> Recording | None:
    """Return a job's recording; None: the handoff store has none, or none any more.

    An upload is there as it was sent for `HANDOFF_TTL`. Of any other source there is the decoded audio, until it is
    transcribed.
    """
    if job.source.startswith(UPLOAD) and store.audio.has_upload(job.source):
        container = (job.audio.container if job.audio else None) or ""
        media_type = TYPES.get(container.partition(",")[0], UNKNOWN)
        return Recording(store.audio.read_upload(job.source), media_type, job.audio.source_bytes if job.audio else None)
    if store.audio.exists(job.id):
        return Recording(store.audio.read(job.id), "audio/flac", None)
    return None


def part(header: str | None, size: int | None) -> tuple[int, int] | None:
    """Return the first and last byte that a `Range` header requests; None: all of them.

    Only a single range with a first byte is supported, which is what players send. Any other is answered by everything,
    as HTTP allows.

    Raises:
        ValueError: the range begins behind the end.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or size is None:
        return None
    first, last = int(match[1]), int(match[2] or size - 1)
    if first >= size:
        raise ValueError(f"the recording has {size} bytes")
    return (first, min(last, size - 1)) if last >= first else None


def cut(chunks: Iterator[bytes], first: int, last: int) -> Iterator[bytes]:
    """Yield the part of the chunks that lies between two bytes, both included."""
    at = 0
    for chunk in chunks:
        begin, end = max(first - at, 0), min(last + 1 - at, len(chunk))
        if begin < end:
            yield chunk[begin:end]
        at += len(chunk)
        if at > last:
            return
