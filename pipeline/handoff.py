"""Audio on its way between stages and from a backend: gone after its turn, or after `HANDOFF_TTL`.

An entry is a list in Redis: a header, then chunks. Long audio goes to files under `HANDOFF_URL` instead, where that is
set, and its entry is the header alone. With `HANDOFF_KEY` chunks are sealed by Fernet, cryptography's recipe.

Part of the backend's path: the standard library and redis; fsspec and cryptography only where those settings ask.
"""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import redis

from pipeline import connection, variables
from pipeline.errors import JobError

CHUNK = 512 * 1024  # bytes; small enough that a chunk does not hold up Redis for others
SEALED_CHUNK = CHUNK // 4 * 3 - 1024  # bytes before sealing, which writes them in base64 with a frame around them
UPLOAD = "upload:"  # how a source that lies here begins

# Defaults of the settings of these names, in seconds and bytes; a test holds them to config/settings.py.
HANDOFF_TTL = 86400
HANDOFF_URL_FROM = 16 * 1024**2
MAX_SOURCE_BYTES = 512 * 1024**2

# Two indexes of all entries, for the store's size to be known without a scan: when each expires (Unix seconds), and how
# many bytes it has in Redis.
EXPIRIES_KEY = f"{connection.NAMESPACE}:handoff:expiries"  # sorted set of the entries' keys
SIZES_KEY = f"{connection.NAMESPACE}:handoff:sizes"  # hash by the entries' keys
GROWING = 60  # seconds that an unfinished entry outlives its last chunk: its writer may have been killed

SPARING = 20  # a count serves this many times as long as it took: counting takes a twentieth of the time at most


@dataclass(slots=True)
class _Count:
    """What this process knows of the store's size."""

    size: int = 0  # bytes
    until: float = 0.0  # by the monotonic clock (seconds)


_count = _Count()


# Audio between stages


def put(job_id: str, path: Path, ttl: float | None = None) -> int:
    """Store a job's audio and return its size in bytes. A reader sees all of it or nothing, also when it is put twice.

    Args:
        job_id: whose audio it is.
        path: the file.
        ttl: how long it lives (seconds); None: `HANDOFF_TTL`.

    Raises:
        JobError: `handoff_full` or `handoff_unavailable`.
    """
    key, size = _key("audio", job_id), path.stat().st_size
    replaced = _header(key)
    with path.open("rb") as data:
        if os.environ.get("HANDOFF_URL") and size >= variables.number("HANDOFF_URL_FROM", HANDOFF_URL_FROM):
            name = f"{job_id}-{uuid.uuid4().hex}"
            _write_object(name, _chunks(data))
            _publish(key, {"size": size, "object": name}, (), ttl)
        else:
            _publish(key, {"size": size}, _chunks(data), ttl)
    _drop_object(replaced)
    return size


def read(job_id: str) -> Iterator[bytes]:
    """Yield a job's audio in chunks.

    Raises:
        JobError: `handoff_expired`: it is not there, or not any more; `handoff_unavailable`, `handoff_unreadable`.
    """
    return _read(_key("audio", job_id), JobError("handoff_expired", "the audio is not in the handoff store any more"))


def exists(job_id: str) -> bool:
    """Tell whether a job's audio is there."""
    return bool(connection.client().exists(_key("audio", job_id)))


def delete(job_id: str) -> None:
    """Remove a job's audio, if it is there."""
    _delete(_key("audio", job_id))


# Messages from a backend


def upload(data: bytes | BinaryIO) -> str:
    """Store the bytes of a voice message and return the source to send; it lives `HANDOFF_TTL`.

    Raises:
        JobError: `source_too_large`: it has more than `MAX_SOURCE_BYTES`; `handoff_full`.
    """
    upload_id, limit = uuid.uuid4().hex, int(variables.number("MAX_SOURCE_BYTES", MAX_SOURCE_BYTES))
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    _publish(_key("upload", upload_id), {}, _chunks(file, limit), None)
    return UPLOAD + upload_id


def read_upload(source: str) -> Iterator[bytes]:
    """Yield what was uploaded, in chunks.

    Raises:
        JobError: `source_not_found`: it is not there, or not any more; `handoff_unreadable`.
    """
    missing = JobError("source_not_found", "the upload is not in the handoff store: never made, or expired")
    return _read(_key("upload", source.removeprefix(UPLOAD)), missing)


def delete_upload(source: str) -> None:
    """Remove what was uploaded, if it is there."""
    _delete(_key("upload", source.removeprefix(UPLOAD)))


# The store as a whole


def total_bytes() -> int:
    """Return how many bytes all entries have in Redis."""
    client = connection.client()
    expired = cast("list[bytes]", client.zrangebyscore(EXPIRIES_KEY, 0, time.time()))
    if expired:
        client.zrem(EXPIRIES_KEY, *expired)
        client.hdel(SIZES_KEY, *expired)
    return sum(int(size) for size in cast("list[bytes]", client.hvals(SIZES_KEY)))


def known_bytes() -> int:
    """Return `total_bytes()` as it was counted last, and what this process has stored since.

    Every message that is sent asks for it, and a day's entries take long to count; see SPARING.
    """
    started = time.monotonic()
    if started >= _count.until:
        _count.size = total_bytes()
        ended = time.monotonic()
        _count.until = ended + SPARING * (ended - started)
    return _count.size


def sweep() -> int:
    """Remove the files under `HANDOFF_URL` that outlived `HANDOFF_TTL`, and return how many there were.

    Redis expires its entries itself; a file is left behind where its entry expired or its worker died.
    """
    if not os.environ.get("HANDOFF_URL"):
        return 0
    with _store_errors():
        store, root = _objects()
        store.invalidate_cache()  # what this process wrote long ago may be gone, and others wrote since
        if not store.exists(root):
            return 0
        oldest = time.time() - variables.number("HANDOFF_TTL", HANDOFF_TTL)
        orphans = [path for path in store.find(root) if store.modified(path).timestamp() < oldest]
        for path in orphans:
            with suppress(FileNotFoundError):  # another worker sweeps, too
                store.rm_file(path)
        return len(orphans)


# Entries


def _publish(key: str, header: dict[str, Any], chunks: Iterable[bytes], ttl: float | None) -> None:
    """Write an entry under a name of this writer's own, and give it the one that readers know in a single step."""
    client, lives = connection.client(), int(ttl or variables.number("HANDOFF_TTL", HANDOFF_TTL))
    growing, size, count = f"{key}:{uuid.uuid4().hex}", 0, 0
    try:
        for element in _with(json.dumps(header | {"sealed": _cipher() is not None}).encode(), chunks):
            _grow(growing, element, count)
            count, size = count + 1, size + len(element)
        with client.pipeline(transaction=True) as pipe:
            pipe.expire(growing, lives)
            pipe.rename(growing, key)
            pipe.zadd(EXPIRIES_KEY, {key: time.time() + lives})
            pipe.hset(SIZES_KEY, key, size)
            pipe.execute()
        _count.size += size
    except redis.exceptions.OutOfMemoryError:
        client.delete(growing)
        raise JobError("handoff_full", "Redis has no memory left for the audio") from None
    except BaseException:
        with suppress(redis.RedisError):
            client.delete(growing)
        raise


def _delete(key: str) -> None:
    header = _header(key)
    with connection.client().pipeline(transaction=True) as pipe:
        pipe.delete(key)
        pipe.zrem(EXPIRIES_KEY, key)
        pipe.hdel(SIZES_KEY, key)
        pipe.execute()
    _drop_object(header)


def _grow(key: str, element: bytes, before: int) -> None:
    """Add an element to the `before` ones of an unfinished entry.

    Raises:
        JobError: `handoff_unavailable`: those have expired meanwhile.
    """
    with connection.client().pipeline(transaction=True) as pipe:
        pipe.rpush(key, element)
        pipe.expire(key, GROWING)
        held, _ = pipe.execute()
    if held != before + 1:
        raise JobError("handoff_unavailable", f"what was written expired: a chunk took over {GROWING} s")


def _with(header: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield header
    yield from chunks


def _header(key: str) -> dict[str, Any] | None:
    found = cast("bytes | None", connection.client().lindex(key, 0))
    return None if found is None else cast("dict[str, Any]", json.loads(found))


def _read(key: str, missing: JobError) -> Iterator[bytes]:
    header = _header(key)
    if header is None:
        raise missing
    sealed = _elements(key, missing) if "object" not in header else _read_object(header["object"], missing)
    cipher = _cipher() if header["sealed"] else None
    if header["sealed"] and cipher is None:
        raise JobError("handoff_unreadable", "the audio is sealed, and this worker has no HANDOFF_KEY")
    for number, element in enumerate(sealed):
        yield element if cipher is None else _unsealed(cipher, number, element)


def _elements(key: str, missing: JobError) -> Iterator[bytes]:
    client = connection.client()
    for index in range(1, client.llen(key)):
        element = cast("bytes | None", client.lindex(key, index))
        if element is None:
            raise missing
        yield element


def _key(kind: str, name: str) -> str:
    return f"{connection.NAMESPACE}:{kind}:{name}"


# Chunks and their seal


def _chunks(data: BinaryIO, limit: int | None = None) -> Iterator[bytes]:
    """Yield a file in chunks, sealed where `HANDOFF_KEY` is set, each with its number so that none can change places.

    Raises:
        JobError: `source_too_large`: there are more than `limit` bytes.
    """
    cipher, size, number = _cipher(), 0, 0
    while chunk := data.read(CHUNK if cipher is None else SEALED_CHUNK):
        size += len(chunk)
        if limit is not None and size > limit:
            raise JobError("source_too_large", f"it has more than {limit} bytes, which is MAX_SOURCE_BYTES")
        yield chunk if cipher is None else cipher.encrypt(number.to_bytes(4, "big") + chunk)
        number += 1


def _unsealed(cipher: Any, number: int, token: bytes) -> bytes:
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - an extra

    try:
        chunk: bytes = cipher.decrypt(token)
    except InvalidToken:
        raise JobError("handoff_unreadable", "the audio was sealed with another HANDOFF_KEY") from None
    if chunk[:4] != number.to_bytes(4, "big"):
        raise JobError("handoff_unreadable", "chunks of the audio changed places")
    return chunk[4:]


def _cipher() -> Any:
    """Return the seal of `HANDOFF_KEY`, or None. Of several keys the first seals, and all unseal: for a change of keys.

    Raises:
        JobError: `handoff_unreadable`: the keys are no Fernet keys, or cryptography is not installed.
    """
    keys = os.environ.get("HANDOFF_KEY", "").replace(",", " ").split()
    if not keys:
        return None
    try:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - an extra
    except ImportError:
        raise JobError("handoff_unreadable", "HANDOFF_KEY needs cryptography: install the extra `encryption`") from None
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise JobError("handoff_unreadable", "HANDOFF_KEY is no Fernet key") from None


# Files under HANDOFF_URL: sealed or plain chunks, each after its length in four bytes


def _write_object(name: str, chunks: Iterable[bytes]) -> None:
    with _store_errors():
        store, root = _objects()
        store.makedirs(root, exist_ok=True)
        with store.open(f"{root}/{name}", "wb") as file:
            for chunk in chunks:
                file.write(len(chunk).to_bytes(4, "big") + chunk)


def _read_object(name: str, missing: JobError) -> Iterator[bytes]:
    with _store_errors(missing):
        store, root = _objects()
        with store.open(f"{root}/{name}", "rb") as file:
            while size := file.read(4):
                yield file.read(int.from_bytes(size, "big"))


def _drop_object(header: dict[str, Any] | None) -> None:
    if header and "object" in header and os.environ.get("HANDOFF_URL"):
        with _store_errors(), suppress(FileNotFoundError):
            store, root = _objects()
            store.rm_file(f"{root}/{header['object']}")


def _objects() -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 - an extra

    store, root = fsspec.url_to_fs(os.environ.get("HANDOFF_URL", ""))
    return store, root.rstrip("/")


@contextmanager
def _store_errors(missing: JobError | None = None) -> Iterator[None]:
    try:
        yield
    except JobError:
        raise
    except FileNotFoundError as error:
        raise missing or JobError("handoff_unavailable", "HANDOFF_URL names no place that exists") from error
    except Exception as error:  # each store has exceptions of its own, and none of them is this program's fault
        raise JobError(
            "handoff_unavailable", f"the store of HANDOFF_URL cannot be used: {type(error).__name__}"
        ) from error
