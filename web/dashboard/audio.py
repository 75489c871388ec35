"""A job's recording for the player: what the handoff store still has of it, in the ranges that browsers ask for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from voicemill.job import Job
from voicemill.store import keys
from voicemill.store.jobs import UPLOAD

# By FFmpeg's name of the container, as `audio.container` of the record begins.
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
    """Where the bytes of a job's recording are: `key` of the handoff store, their media type, their size in bytes."""

    source: str  # "upload:<id>", or empty for the decoded audio that waits for its turn
    job_id: str
    media_type: str
    size: int | None  # None: it is not known before they are read

    def read(self) -> Iterator[bytes]:
        """Yield the bytes in chunks.

        Raises:
            JobError: they are not there any more.
        """
        return store.audio.read_upload(self.source) if self.source else store.audio.read(self.job_id)


def find(job: Job) -> Recording | None:
    """Return a job's recording; None: there is none in the store, or not any more.

    A message that was uploaded lies there as it came for `HANDOFF_TTL`; of one from elsewhere there is the decoded
    audio until it is transcribed.
    """
    audio: dict[str, Any] = job.audio or {}
    source = job.source
    if source.startswith(UPLOAD) and _there("upload", source.removeprefix(UPLOAD)):
        container = str(audio.get("container") or "").partition(",")[0]
        return Recording(source, job.id, TYPES.get(container, UNKNOWN), audio.get("source_bytes"))
    if store.audio.exists(job.id):
        return Recording("", job.id, "audio/flac", None)
    return None


def part(header: str | None, size: int | None) -> tuple[int, int] | None:
    """Return the first and last byte that a `Range` header asks for; None: all of them.

    Only one range from a first byte on is understood, which is what players send; any other is answered by everything,
    as HTTP allows.

    Raises:
        ValueError: it begins behind the end.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or size is None:
        return None
    first, last = int(match[1]), int(match[2] or size - 1)
    if first >= size:
        raise ValueError(f"the recording has {size} bytes")
    return (first, min(last, size - 1)) if last >= first else None


def cut(chunks: Iterator[bytes], first: int, last: int) -> Iterator[bytes]:
    """Yield of all chunks what lies between two bytes, both included."""
    at = 0
    for chunk in chunks:
        begin, end = max(first - at, 0), min(last + 1 - at, len(chunk))
        if begin < end:
            yield chunk[begin:end]
        at += len(chunk)
        if at > last:
            return


def _there(kind: str, name: str) -> bool:
    return bool(store.redis.exists(f"{keys.NAMESPACE}:{kind}:{name}"))
