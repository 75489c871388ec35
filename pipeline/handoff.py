"""Audio on its way between stages and from a backend: in Redis, in chunks, gone after its turn or after `HANDOFF_TTL`.

Part of the backend's path: the standard library and redis, nothing else.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import redis

from pipeline import connection
from pipeline.errors import JobError

CHUNK = 512 * 1024  # bytes; small enough that a chunk does not hold up Redis for others
DEFAULT_TTL = 86400  # seconds
UPLOAD = "upload:"  # how a source that lies here begins


def put(job_id: str, path: Path, ttl: float | None = None) -> int:
    """Store a job's audio and return its size in bytes. A reader sees all of it or nothing, also when it is put twice.

    Args:
        job_id: whose audio it is.
        path: the file.
        ttl: how long it lives (seconds); None: `HANDOFF_TTL`.

    Raises:
        JobError: `handoff_full`: Redis has no memory left for it.
    """
    with path.open("rb") as data:
        return _store(_key("audio", job_id), data, ttl)


def read(job_id: str) -> Iterator[bytes]:
    """Yield a job's audio in chunks.

    Raises:
        JobError: `handoff_expired`: it is not there, or not any more.
    """
    return _read(_key("audio", job_id), JobError("handoff_expired", "the audio is not in the handoff store any more"))


def exists(job_id: str) -> bool:
    """Tell whether a job's audio is there."""
    return bool(connection.client().exists(_key("audio", job_id)))


def delete(job_id: str) -> None:
    """Remove a job's audio, if it is there."""
    connection.client().delete(_key("audio", job_id))


def upload(data: bytes | BinaryIO) -> str:
    """Store the bytes of a voice message and return the source to send; it lives `HANDOFF_TTL`.

    Raises:
        JobError: `handoff_full`: Redis has no memory left for it.
    """
    upload_id = uuid.uuid4().hex
    _store(_key("upload", upload_id), io.BytesIO(data) if isinstance(data, bytes) else data, None)
    return UPLOAD + upload_id


def read_upload(source: str) -> Iterator[bytes]:
    """Yield what was uploaded, in chunks.

    Raises:
        JobError: `source_not_found`: it is not there, or not any more.
    """
    missing = JobError("source_not_found", f"{source} is not in the handoff store: never uploaded, or expired")
    return _read(_key("upload", source.removeprefix(UPLOAD)), missing)


def _store(key: str, data: BinaryIO, ttl: float | None) -> int:
    """Write chunks under a key of this writer's own, and publish them by its last name in one step."""
    client = connection.client()
    lives = int(ttl or float(os.environ.get("HANDOFF_TTL") or DEFAULT_TTL))
    growing, size = f"{key}:{uuid.uuid4().hex}", 0
    try:
        while (chunk := data.read(CHUNK)) or not size:
            with client.pipeline(transaction=True) as pipe:
                pipe.rpush(growing, chunk)
                pipe.expire(growing, lives)
                pipe.execute()
            size += len(chunk)
            if not chunk:
                break
        client.rename(growing, key)
    except redis.exceptions.OutOfMemoryError:
        client.delete(growing)
        raise JobError("handoff_full", "Redis has no memory left for the audio") from None
    return size


def _read(key: str, missing: JobError) -> Iterator[bytes]:
    client = connection.client()
    count = client.llen(key)
    if not count:
        raise missing
    for index in range(count):
        chunk = client.lindex(key, index)
        if chunk is None:
            raise missing
        yield cast("bytes", chunk)


def _key(kind: str, name: str) -> str:
    return f"{connection.NAMESPACE}:{kind}:{name}"
