"""Audio on its way between stages and from a backend: gone after its turn, or after `HANDOFF_TTL`.

An entry is a list in Redis: a header, then chunks. Long audio goes to files under `HANDOFF_URL` instead, where that is
set, and its entry is the header alone (objects.py). With `HANDOFF_KEY` chunks are sealed (seal.py).

An upload is spent when its job has its transcript or has ended: from then on it is kept, for the player and for another
try, as long as nobody needs its room. Part of the backend's path: the standard library and redis.
"""

from __future__ import annotations

import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast
from weakref import WeakKeyDictionary

import redis

from voicemill import variables
from voicemill.errors import JobError
from voicemill.store import connection
from voicemill.store import encryption as seal
from voicemill.store import files as objects

CHUNK = 512 * 1024  # bytes; small enough that a chunk does not hold up Redis for others
SEALED_CHUNK = CHUNK // 4 * 3 - seal.OVERHEAD  # bytes before sealing, which writes them in base64
UPLOAD = "upload:"  # how a source that lies here begins

# Defaults of the settings of these names, in seconds and bytes; a test holds them to config/settings.py.
HANDOFF_TTL = 86400
HANDOFF_URL_FROM = 16 * 1024**2
MAX_SOURCE_BYTES = 512 * 1024**2
MAX_HANDOFF_BYTES = 8 * 1024**3

# Two indexes of all entries, for the store's size to be known without a scan: when each expires (Unix seconds), and how
# many bytes it has in Redis.
EXPIRIES_KEY = f"{connection.NAMESPACE}:handoff:expiries"  # sorted set of the entries' keys
SIZES_KEY = f"{connection.NAMESPACE}:handoff:sizes"  # hash by the entries' keys
# Sorted set of the uploads (`upload:<id>`) that no job waits for any more, by the time of that; advance.lua writes it.
SPENT_KEY = f"{connection.NAMESPACE}:handoff:spent"
# Sorted set of the files under HANDOFF_URL that live longer than by their age, by when they expire (Unix seconds).
RENEWED_KEY = f"{connection.NAMESPACE}:handoff:renewed"
GROWING = 60  # seconds that an unfinished entry outlives its last chunk: its writer may have been killed

AUDIO_SHARE = 8  # decoding goes on in a store full of uploads until audio has one part of so many of it
AMPLE = 16  # room is made for one part of so many of the store at a time, so that it is not made for every message
SPARING = 20  # a count serves this many times as long as it took: counting takes a twentieth of the time at most,
FRESH = 0.25  # and so many seconds, unless by it the store is full: then it is counted anew
MEMORY_LOOK = 1.0  # seconds that what Redis may use is taken for unchanged: telling it takes longer than a small upload


@dataclass(slots=True)
class _Known:
    """What this process knows of a client's Redis, in bytes, and until when that serves, by the monotonic clock."""

    size: int = 0  # of the store
    size_until: float = 0.0
    memory: int = 0  # that Redis may use; 0: all there is
    memory_until: float = 0.0


_known: WeakKeyDictionary[redis.Redis, _Known] = WeakKeyDictionary()


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
    key = _key("audio", job_id)
    replaced = _object_of(key)
    with path.open("rb") as data:
        size = _store(key, data, path.stat().st_size, ttl)
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
        JobError: `source_too_large`: it has more than `MAX_SOURCE_BYTES`; `handoff_full`, `handoff_unavailable`.
        RedisError: Redis cannot be used.
    """
    if reason := full():
        raise JobError("handoff_full", reason)
    upload_id, limit = uuid.uuid4().hex, _number("MAX_SOURCE_BYTES", MAX_SOURCE_BYTES)
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    _store(_key("upload", upload_id), file, _rest(file), None, limit)
    return UPLOAD + upload_id


@contextmanager
def uploaded(data: bytes | BinaryIO) -> Iterator[str]:
    """`upload`, for a block that sends the source: where that fails nothing is left of it.

    Raises:
        JobError: as `upload`.
    """
    source = upload(data)
    try:
        yield source
    except BaseException:
        with suppress(JobError, redis.RedisError):
            delete_upload(source)
        raise


def renew(source: str) -> None:
    """Let an upload live `HANDOFF_TTL` longer than the audio that is made of it now, which may expire unread."""
    client, key, lives = connection.client(), _key("upload", source.removeprefix(UPLOAD)), 2 * _ttl()
    name = _object_of(key)
    if client.expire(key, lives):
        client.zadd(EXPIRIES_KEY, {key: time.time() + lives}, xx=True)
        if name is not None:
            client.zadd(RENEWED_KEY, {name: time.time() + lives})


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


def full(*, decoding: bool = False) -> str | None:
    """Return why nothing more should be stored; None: there is room, if need be that of spent uploads, made now.

    The bound is `MAX_HANDOFF_BYTES`, and half of the memory that Redis may use: to take audio out again, records have
    to be written. With `decoding` uploads alone do not reach it, since only decoding makes their room free again.
    """
    held = known_bytes()
    bound, why = _bound(held)
    if held >= bound and (held := _counted()) >= bound:
        held = _make_room(held, bound)
    if held < bound or (decoding and audio_bytes() < bound // AUDIO_SHARE):
        return None
    return f"the handoff store holds {held} bytes, and {why}"


def demand_space(size: int) -> None:
    """Refuse audio of `size` bytes that would find no place in an empty store either; to be asked where it found none.

    Raises:
        JobError: `handoff_too_large`.
    """
    if _outside(size):
        return
    bound, why = _bound(size)
    if size > bound:
        raise JobError("handoff_too_large", f"its audio has {size} bytes, the whole store may hold {bound}, and {why}")


def total_bytes() -> int:
    """Return how many bytes all entries have in Redis."""
    client = connection.client()
    expired = cast("list[bytes]", client.zrangebyscore(EXPIRIES_KEY, 0, time.time()))
    if expired:
        client.zrem(EXPIRIES_KEY, *expired)
        client.hdel(SIZES_KEY, *expired)
        client.zrem(SPENT_KEY, *(key.decode().removeprefix(f"{connection.NAMESPACE}:") for key in expired))
    return sum(int(size) for size in cast("list[bytes]", client.hvals(SIZES_KEY)))


def audio_bytes() -> int:
    """Return how many bytes of them are audio between stages, which transcribing makes free."""
    sizes = cast("dict[bytes, bytes]", connection.client().hgetall(SIZES_KEY))
    return sum(int(size) for key, size in sizes.items() if key.startswith(_key("audio", "").encode()))


def known_bytes() -> int:
    """Return `total_bytes()` as it was counted last, and what this process has stored since.

    Every message that is sent asks for it, and a day's entries take long to count; see SPARING.
    """
    known = _known_of(connection.client())
    return known.size if time.monotonic() < known.size_until else _counted()


def sweep() -> int:
    """Remove the files under `HANDOFF_URL` that outlived their time, and return how many there were.

    Redis expires its entries itself; a file is left behind where its entry expired or its worker died.
    """
    client, now = connection.client(), time.time()
    client.zremrangebyscore(RENEWED_KEY, 0, now)
    client.zremrangebyscore(SPENT_KEY, 0, now - 2 * _ttl())  # none lives longer, see `renew`
    if not os.environ.get("HANDOFF_URL"):
        return 0
    renewed = cast("list[bytes]", client.zrange(RENEWED_KEY, 0, -1))
    return objects.sweep(now - _ttl(), {name.decode() for name in renewed})


def _outside(size: int) -> bool:
    """Tell whether an entry of so many bytes lies under `HANDOFF_URL` and not in Redis."""
    return bool(os.environ.get("HANDOFF_URL")) and size >= _number("HANDOFF_URL_FROM", HANDOFF_URL_FROM)


def _bound(held: int) -> tuple[int, str]:
    ceiling = _number("MAX_HANDOFF_BYTES", MAX_HANDOFF_BYTES)
    memory = held and _max_memory()
    if memory and memory // 2 < ceiling:
        return memory // 2, f"Redis may use {memory}"
    return ceiling, f"MAX_HANDOFF_BYTES is {ceiling}"


def _known_of(client: redis.Redis) -> _Known:
    return _known.setdefault(client, _Known())


def _max_memory() -> int:
    client, now = connection.client(), time.monotonic()
    known = _known_of(client)
    if now >= known.memory_until:
        known.memory = int(client.info("memory").get("maxmemory", 0))
        known.memory_until = now + MEMORY_LOOK
    return known.memory


def _counted() -> int:
    known, started = _known_of(connection.client()), time.monotonic()
    known.size = total_bytes()
    ended = time.monotonic()
    known.size_until = ended + max(FRESH, SPARING * (ended - started))
    return known.size


def _make_room(held: int, bound: int) -> int:
    """Remove spent uploads, the oldest first, until there is ample room, and return how many bytes are held then."""
    client, enough = connection.client(), bound - bound // AMPLE
    while held > enough and (spent := cast("list[tuple[bytes, float]]", client.zpopmin(SPENT_KEY))):
        source = spent[0][0].decode()
        held -= int(client.hget(SIZES_KEY, f"{connection.NAMESPACE}:{source}") or 0)
        with suppress(JobError):  # the store of its file cannot be used: it is swept another time
            delete_upload(source)
    _known_of(client).size = held
    return held


# Entries


@dataclass(frozen=True, slots=True)
class _Header:
    """What an entry says of itself: `size` in bytes, before sealing."""

    id: str  # of this writing of the entry
    size: int
    sealed: bool
    object: str | None  # the file under HANDOFF_URL that has the chunks


def _store(key: str, data: BinaryIO, size: int | None, ttl: float | None, limit: int | None = None) -> int:
    """Write an entry and return its size.

    Args:
        key: the name that readers know.
        data: the file, from where it stands.
        size: of the rest of it (bytes), where that is known: it decides where it goes.
        ttl: how long it lives (seconds); None: `HANDOFF_TTL`.
        limit: bytes that it may have.

    Raises:
        JobError: `source_too_large`, `handoff_full`, `handoff_unavailable`, `handoff_unreadable`.
    """
    cipher, entry_id, read = seal.cipher(), uuid.uuid4().hex, 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        while chunk := data.read(CHUNK if cipher is None else SEALED_CHUNK):
            read += len(chunk)
            if limit is not None and read > limit:
                raise JobError("source_too_large", f"it has more than {limit} bytes, which is MAX_SOURCE_BYTES")
            yield chunk

    elements = chunks() if cipher is None else seal.seal(cipher, _sealed_as(key, entry_id), chunks())
    name = None
    if size is not None and _outside(size):
        name, elements = objects.write(elements), iter(())
    try:
        _publish(key, elements, lambda: _Header(entry_id, read, cipher is not None, name), ttl)
    except BaseException:
        with suppress(JobError):  # it is swept another time
            _drop_object(name)
        raise
    return read


def _publish(key: str, chunks: Iterable[bytes], header: Callable[[], _Header], ttl: float | None) -> None:
    """Write an entry under a name of this writer's own, and give it the one that readers know in a single step."""
    client, lives = connection.client(), int(ttl or _ttl())
    growing, source = f"{key}:{uuid.uuid4().hex}", iter(chunks)
    waiting = [b"", *islice(source, 1)]  # the header's place, who knows the size only at the end; most have one chunk
    size, count = sum(map(len, waiting)), 0
    try:
        for element in source:
            count = _grow(growing, [*waiting, element], count)
            waiting, size = [], size + len(element)
        head = json.dumps(asdict(header()))
        with client.pipeline(transaction=True) as pipe:
            if waiting:
                pipe.rpush(growing, *waiting)
            pipe.lset(growing, 0, head)
            pipe.expire(growing, lives)
            pipe.rename(growing, key)
            pipe.zadd(EXPIRIES_KEY, {key: time.time() + lives})
            pipe.hset(SIZES_KEY, key, size + len(head))
            pipe.execute()
        _known_of(client).size += size
    except redis.exceptions.OutOfMemoryError:
        client.delete(growing)
        raise JobError("handoff_full", "Redis has no memory left for the audio") from None
    except BaseException:
        with suppress(redis.RedisError):
            client.delete(growing)
        raise


def _delete(key: str) -> None:
    name = _object_of(key)
    with connection.client().pipeline(transaction=True) as pipe:
        pipe.delete(key)
        pipe.zrem(EXPIRIES_KEY, key)
        pipe.hdel(SIZES_KEY, key)
        pipe.zrem(SPENT_KEY, key.removeprefix(f"{connection.NAMESPACE}:"))
        pipe.execute()
    _drop_object(name)


def _grow(key: str, elements: list[bytes], before: int) -> int:
    """Add elements to the `before` ones of an unfinished entry, and return how many it has then.

    Raises:
        JobError: `handoff_unavailable`: those have expired meanwhile.
    """
    with connection.client().pipeline(transaction=True) as pipe:
        pipe.rpush(key, *elements)
        pipe.expire(key, GROWING)
        held, _ = pipe.execute()
    if held != before + len(elements):
        raise JobError("handoff_unavailable", f"what was written expired: a chunk took over {GROWING} s")
    return cast("int", held)


def _header(key: str) -> _Header | None:
    """Return an entry's header; None: there is no such entry.

    Raises:
        JobError: `handoff_unreadable`: it is not one that `_publish` writes.
    """
    damaged = JobError("handoff_unreadable", "the entry of the audio is damaged, or written by another version")
    try:
        found = cast("bytes | None", connection.client().lindex(key, 0))
        header = None if found is None else _Header(**json.loads(found))
    except (TypeError, ValueError, RecursionError):
        raise damaged from None
    except redis.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            raise damaged from None
        raise
    if header is not None and not (header.object is None or objects.ours(header.object)):
        raise damaged
    return header


def _object_of(key: str) -> str | None:
    """Return the name of the file that an entry has, if it has one."""
    try:
        header = _header(key)
    except JobError:
        return None
    return None if header is None else header.object


def _read(key: str, missing: JobError) -> Iterator[bytes]:
    header, cipher, size = _header(key), seal.cipher(), 0
    if header is None:
        raise missing
    if header.sealed and cipher is None:
        raise JobError("handoff_unreadable", "the audio is sealed, and this worker has no HANDOFF_KEY")
    if cipher is not None and not header.sealed:
        raise JobError("handoff_unreadable", "the audio is not sealed, and this worker has a HANDOFF_KEY")
    elements = _elements(key, missing) if header.object is None else objects.read(header.object, CHUNK, missing)
    for chunk in elements if cipher is None else seal.unseal(cipher, _sealed_as(key, header.id), elements):
        size += len(chunk)
        yield chunk
    if size != header.size:
        raise JobError("handoff_unreadable", f"{size} bytes of the audio are left of {header.size}")


def _elements(key: str, missing: JobError) -> Iterator[bytes]:
    client = connection.client()
    for index in range(1, client.llen(key)):
        element = cast("bytes | None", client.lindex(key, index))
        if element is None:
            raise missing
        yield element


def _drop_object(name: str | None) -> None:
    if name is not None:
        objects.drop(name)


def _sealed_as(key: str, entry_id: str) -> str:
    return f"{key} {entry_id}"


def _rest(file: BinaryIO) -> int | None:
    """Return how many bytes a file has from where it stands; None: it does not know."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError):
        return None
    return end - here


def _key(kind: str, name: str) -> str:
    return f"{connection.NAMESPACE}:{kind}:{name}"


def _ttl() -> int:
    return _number("HANDOFF_TTL", HANDOFF_TTL)


def _number(variable: str, default: int) -> int:
    return int(variables.number(variable, default))
