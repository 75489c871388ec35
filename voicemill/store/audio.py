"""The handoff store: audio between stages, and uploads from backends. An entry expires after `handoff_ttl`.

An entry is a list in Redis: a header, then chunks. Long audio goes to files under `handoff_url` if that is
set, and its entry is the header alone (files.py). With `handoff_key` chunks are encrypted (encryption.py).

An upload is spent when its job has its transcript or has ended. From then on it is kept for the player and for a retry
until its room is needed.
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
from typing import TYPE_CHECKING, BinaryIO, cast

import redis

from voicemill.errors import ErrorCode, JobError
from voicemill.store import encryption, files, keys
from voicemill.store.jobs import UPLOAD

if TYPE_CHECKING:
    from voicemill.store import Store

CHUNK = 512 * 1024  # bytes; small enough that a chunk does not hold up Redis for others
ENCRYPTED_CHUNK = CHUNK // 4 * 3 - encryption.OVERHEAD  # bytes before encryption, which writes them in base64
GROWING = 60  # seconds that an unfinished entry outlives its last chunk: its writer may have been killed

AUDIO_SHARE = 8  # decoding continues in a store full of uploads until audio has one part of so many of it
AMPLE = 16  # room is made for one part of so many of the store at a time, so that it is not made for every message
SPARING = 20  # a count serves this many times as long as it took: counting takes a twentieth of the time at most,
FRESH = 0.25  # and so many seconds, unless by it the store is full: then it is counted again
MEMORY_CHECK = 1.0  # seconds that Redis's memory limit is cached: asking takes longer than a small upload


@dataclass(slots=True)
class _Known:
    """What this process knows of the store, in bytes, and how long that serves, by the monotonic clock."""

    size: int = 0  # of the store
    size_until: float = 0.0
    memory: int = 0  # that Redis may use; 0: all there is
    memory_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Header:
    """What an entry says of itself: `size` in bytes, before encryption."""

    id: str  # of this writing of the entry
    size: int
    sealed: bool  # whether the chunks are encrypted
    object: str | None  # the file under HANDOFF_URL that has the chunks


class AudioStore:
    """The audio and uploads in one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known = _Known()

    # Audio between stages

    def put(self, job_id: str, path: Path, ttl: float | None = None) -> int:
        """Store a job's audio and return its size in bytes.

        A reader sees all of it or nothing, also when it is put twice.

        Args:
            job_id: whose audio it is.
            path: the file.
            ttl: how long it lives (seconds); None: `handoff_ttl`.

        Raises:
            JobError: `handoff_full` or `handoff_unavailable`.
        """
        key = keys.audio(job_id)
        replaced = self._file_of(key)
        with path.open("rb") as data:
            size = self._write(key, data, path.stat().st_size, ttl)
        self._drop_file(replaced)
        return size

    def read(self, job_id: str) -> Iterator[bytes]:
        """Yield a job's audio in chunks.

        Raises:
            JobError: `handoff_expired`: it is not there, or not any more; `handoff_unavailable`, `handoff_unreadable`.
        """
        missing = JobError(ErrorCode.HANDOFF_EXPIRED, "the audio is not in the handoff store any more")
        return self._read(keys.audio(job_id), missing)

    def exists(self, job_id: str) -> bool:
        """Return whether a job's audio is there."""
        return bool(self._store.redis.exists(keys.audio(job_id)))

    def delete(self, job_id: str) -> None:
        """Remove a job's audio, if it is there."""
        self._delete(keys.audio(job_id))

    # Uploads from backends

    def upload(self, data: bytes | BinaryIO) -> str:
        """Store the bytes of a voice message for `handoff_ttl`, and return the source to send.

        Raises:
            JobError: `source_too_large`: it has more than `max_source_bytes`; `handoff_full`, `handoff_unavailable`.
            RedisError: Redis cannot be used.
        """
        if reason := self.full():
            raise JobError(ErrorCode.HANDOFF_FULL, reason)
        upload_id, limit = uuid.uuid4().hex, self._store.config.max_source_bytes
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        self._write(keys.upload(upload_id), file, _rest(file), None, limit)
        return UPLOAD + upload_id

    @contextmanager
    def uploaded(self, data: bytes | BinaryIO) -> Iterator[str]:
        """`upload` for a block that sends the source; if the block fails, nothing is left of it.

        Raises:
            JobError: as `upload`.
        """
        source = self.upload(data)
        try:
            yield source
        except BaseException:
            with suppress(JobError, redis.RedisError):
                self.delete_upload(source)
            raise

    def renew(self, source: str) -> None:
        """Let an upload live `handoff_ttl` longer than the audio that is made of it now, which may expire unread."""
        client, key, lives = self._store.redis, _upload_key(source), 2 * self._ttl
        name = self._file_of(key)
        if client.expire(key, lives):
            client.zadd(keys.EXPIRIES, {key: time.time() + lives}, xx=True)
            if name is not None:
                client.zadd(keys.RENEWED, {name: time.time() + lives})

    def read_upload(self, source: str) -> Iterator[bytes]:
        """Yield an upload in chunks.

        Raises:
            JobError: `source_not_found`: it is not there, or not any more; `handoff_unreadable`.
        """
        reason = "the upload is not in the handoff store: never made, or expired"
        return self._read(_upload_key(source), JobError(ErrorCode.SOURCE_NOT_FOUND, reason))

    def has_upload(self, source: str) -> bool:
        """Return whether an upload is there."""
        return bool(self._store.redis.exists(_upload_key(source)))

    def delete_upload(self, source: str) -> None:
        """Remove an upload, if it is there."""
        self._delete(_upload_key(source))

    # The store as a whole

    def full(self, *, decoding: bool = False) -> str | None:
        """Return why nothing more should be stored; None: there is room, if necessary that of spent uploads.

        The limit is `max_handoff_bytes`, and half of the memory that Redis may use: to take audio out again, records
        have to be written. With `decoding` uploads alone do not reach it, since only decoding frees their room.
        """
        held = self.known_bytes()
        limit, why = self._limit(held)
        if held >= limit and (held := self._count()) >= limit:
            held = self._make_room(held, limit)
        if held < limit or (decoding and self.audio_bytes() < limit // AUDIO_SHARE):
            return None
        return f"the handoff store holds {held} bytes, and {why}"

    def demand_space(self, size: int) -> None:
        """Refuse audio of `size` bytes that would not fit into an empty store; to be asked if there was no room.

        Raises:
            JobError: `handoff_too_large`.
        """
        if self._goes_to_file(size):
            return
        limit, why = self._limit(size)
        if size > limit:
            message = f"its audio has {size} bytes, the whole store may hold {limit}, and {why}"
            raise JobError(ErrorCode.HANDOFF_TOO_LARGE, message)

    def total_bytes(self) -> int:
        """Return how many bytes all entries have in Redis."""
        client = self._store.redis
        expired = cast("list[bytes]", client.zrangebyscore(keys.EXPIRIES, 0, time.time()))
        if expired:
            client.zrem(keys.EXPIRIES, *expired)
            client.hdel(keys.SIZES, *expired)
            client.zrem(keys.SPENT, *(key.decode().removeprefix(f"{keys.NAMESPACE}:") for key in expired))
        return sum(int(size) for size in cast("list[bytes]", client.hvals(keys.SIZES)))

    def audio_bytes(self) -> int:
        """Return how many bytes of them are audio between stages, which transcribing frees."""
        sizes = cast("dict[bytes, bytes]", self._store.redis.hgetall(keys.SIZES))
        return sum(int(size) for key, size in sizes.items() if key.startswith(keys.audio("").encode()))

    def known_bytes(self) -> int:
        """Return `total_bytes()` as it was counted last, and what this process has stored since.

        Every message that is sent asks for it, and a day's entries take long to count; see SPARING.
        """
        return self._known.size if time.monotonic() < self._known.size_until else self._count()

    def sweep(self) -> int:
        """Remove the files under `handoff_url` that outlived their time, and return how many there were.

        Redis expires its entries itself; a file is left behind if its entry expired or its worker died.
        """
        client, now = self._store.redis, time.time()
        client.zremrangebyscore(keys.RENEWED, 0, now)
        client.zremrangebyscore(keys.SPENT, 0, now - 2 * self._ttl)  # none lives longer, see `renew`
        if not self._url:
            return 0
        renewed = cast("list[bytes]", client.zrange(keys.RENEWED, 0, -1))
        return files.sweep(self._url, now - self._ttl, {name.decode() for name in renewed})

    @property
    def _ttl(self) -> int:
        return int(self._store.config.handoff_ttl)

    @property
    def _url(self) -> str | None:
        return self._store.config.handoff_url

    def _goes_to_file(self, size: int) -> bool:
        return bool(self._url) and size >= self._store.config.handoff_url_from

    def _limit(self, held: int) -> tuple[int, str]:
        ceiling = self._store.config.max_handoff_bytes
        memory = held and self._max_memory()
        if memory and memory // 2 < ceiling:
            return memory // 2, f"Redis may use {memory}"
        return ceiling, f"MAX_HANDOFF_BYTES is {ceiling}"

    def _max_memory(self) -> int:
        known, now = self._known, time.monotonic()
        if now >= known.memory_until:
            known.memory = int(self._store.redis.info("memory").get("maxmemory", 0))
            known.memory_until = now + MEMORY_CHECK
        return known.memory

    def _count(self) -> int:
        known, started = self._known, time.monotonic()
        known.size = self.total_bytes()
        ended = time.monotonic()
        known.size_until = ended + max(FRESH, SPARING * (ended - started))
        return known.size

    def _make_room(self, held: int, limit: int) -> int:
        """Remove spent uploads, the oldest first, until there is ample room, and return how many bytes are left."""
        client, enough = self._store.redis, limit - limit // AMPLE
        while held > enough and (spent := cast("list[tuple[bytes, float]]", client.zpopmin(keys.SPENT))):
            source = spent[0][0].decode()
            held -= int(client.hget(keys.SIZES, _upload_key(source)) or 0)
            with suppress(JobError):  # the store of its file cannot be used: it is swept later
                self.delete_upload(source)
        self._known.size = held
        return held

    # Entries

    def _write(self, key: str, data: BinaryIO, size: int | None, ttl: float | None, limit: int | None = None) -> int:
        """Write an entry and return its size.

        Args:
            key: the name that readers know.
            data: the file, from its present position.
            size: of the rest of it (bytes), if known: it decides where it goes.
            ttl: how long it lives (seconds); None: `handoff_ttl`.
            limit: bytes that it may have.

        Raises:
            JobError: `source_too_large`, `handoff_full`, `handoff_unavailable`, `handoff_unreadable`.
        """
        cipher, entry_id, read = encryption.cipher(self._store.config.handoff_key), uuid.uuid4().hex, 0

        def chunks() -> Iterator[bytes]:
            nonlocal read
            while chunk := data.read(CHUNK if cipher is None else ENCRYPTED_CHUNK):
                read += len(chunk)
                if limit is not None and read > limit:
                    message = f"it has more than {limit} bytes, which is MAX_SOURCE_BYTES"
                    raise JobError(ErrorCode.SOURCE_TOO_LARGE, message)
                yield chunk

        elements = chunks() if cipher is None else encryption.encrypt(cipher, f"{key} {entry_id}", chunks())
        name = None
        if size is not None and self._url and self._goes_to_file(size):
            name, elements = files.write(self._url, elements), iter(())
        try:
            self._publish(key, elements, lambda: _Header(entry_id, read, cipher is not None, name), ttl)
        except BaseException:
            with suppress(JobError):  # it is swept later
                self._drop_file(name)
            raise
        return read

    def _publish(self, key: str, chunks: Iterable[bytes], header: Callable[[], _Header], ttl: float | None) -> None:
        """Write an entry under a name of this writer's own, and rename it to the one that readers know in one step."""
        client, lives = self._store.redis, int(ttl or self._ttl)
        growing, source = f"{key}:{uuid.uuid4().hex}", iter(chunks)
        waiting = [b"", *islice(source, 1)]  # room for the header, whose size is known last; most have one chunk
        size, count = sum(map(len, waiting)), 0
        try:
            for element in source:
                count = self._grow(growing, [*waiting, element], count)
                waiting, size = [], size + len(element)
            head = json.dumps(asdict(header()))
            with client.pipeline(transaction=True) as pipe:
                if waiting:
                    pipe.rpush(growing, *waiting)
                pipe.lset(growing, 0, head)
                pipe.expire(growing, lives)
                pipe.rename(growing, key)
                pipe.zadd(keys.EXPIRIES, {key: time.time() + lives})
                pipe.hset(keys.SIZES, key, size + len(head))
                pipe.execute()
            self._known.size += size
        except redis.exceptions.OutOfMemoryError:
            client.delete(growing)
            raise JobError(ErrorCode.HANDOFF_FULL, "Redis has no memory left for the audio") from None
        except BaseException:
            with suppress(redis.RedisError):
                client.delete(growing)
            raise

    def _grow(self, key: str, elements: list[bytes], before: int) -> int:
        """Add elements to the `before` ones of an unfinished entry, and return how many it has then.

        Raises:
            JobError: `handoff_unavailable`: those have expired meanwhile.
        """
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.rpush(key, *elements)
            pipe.expire(key, GROWING)
            held, _ = pipe.execute()
        if held != before + len(elements):
            message = f"what was written expired: a chunk took over {GROWING} s"
            raise JobError(ErrorCode.HANDOFF_UNAVAILABLE, message)
        return cast("int", held)

    def _delete(self, key: str) -> None:
        name = self._file_of(key)
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            pipe.zrem(keys.EXPIRIES, key)
            pipe.hdel(keys.SIZES, key)
            pipe.zrem(keys.SPENT, key.removeprefix(f"{keys.NAMESPACE}:"))
            pipe.execute()
        self._drop_file(name)

    def _header(self, key: str) -> _Header | None:
        """Return an entry's header; None: there is no such entry.

        Raises:
            JobError: `handoff_unreadable`: it is not one that `_publish` writes.
        """
        damaged = JobError(ErrorCode.HANDOFF_UNREADABLE, "the entry of the audio is damaged, or of another version")
        try:
            found = cast("bytes | None", self._store.redis.lindex(key, 0))
            header = None if found is None else _Header(**json.loads(found))
        except (TypeError, ValueError, RecursionError):
            raise damaged from None
        except redis.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                raise damaged from None
            raise
        if header is not None and not (header.object is None or files.is_ours(header.object)):
            raise damaged
        return header

    def _file_of(self, key: str) -> str | None:
        """Return the name of an entry's file, if it has one."""
        try:
            header = self._header(key)
        except JobError:
            return None
        return None if header is None else header.object

    def _read(self, key: str, missing: JobError) -> Iterator[bytes]:
        header, cipher, size = self._header(key), encryption.cipher(self._store.config.handoff_key), 0
        if header is None:
            raise missing
        if header.sealed and cipher is None:
            raise JobError(ErrorCode.HANDOFF_UNREADABLE, "the audio is encrypted, and this worker has no HANDOFF_KEY")
        if cipher is not None and not header.sealed:
            message = "the audio is not encrypted, and this worker has a HANDOFF_KEY"
            raise JobError(ErrorCode.HANDOFF_UNREADABLE, message)
        if header.object is None:
            elements = self._elements(key, missing)
        else:
            elements = files.read(self._url, header.object, CHUNK, missing)
        for chunk in elements if cipher is None else encryption.decrypt(cipher, f"{key} {header.id}", elements):
            size += len(chunk)
            yield chunk
        if size != header.size:
            message = f"{size} bytes of the audio are left of {header.size}"
            raise JobError(ErrorCode.HANDOFF_UNREADABLE, message)

    def _elements(self, key: str, missing: JobError) -> Iterator[bytes]:
        client = self._store.redis
        for index in range(1, client.llen(key)):
            element = cast("bytes | None", client.lindex(key, index))
            if element is None:
                raise missing
            yield element

    def _drop_file(self, name: str | None) -> None:
        if name is not None and self._url:
            files.drop(self._url, name)


def _upload_key(source: str) -> str:
    return keys.upload(source.removeprefix(UPLOAD))


def _rest(file: BinaryIO) -> int | None:
    """Return how many bytes a file has from its present position; None: it does not know."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError):
        return None
    return end - here
