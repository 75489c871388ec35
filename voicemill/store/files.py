"""Long audio under `HANDOFF_URL`: files in any store that fsspec opens, each chunk behind its length in four bytes.

The place may be shared with others: only files with names as made here are read or removed. fsspec is imported only if
that setting is used.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from voicemill.errors import ErrorCode, JobError

PREFIX = "voicemill-handoff-"
_NAME = re.compile(re.escape(PREFIX) + "[0-9a-f]{32}")


def is_ours(name: object) -> bool:
    """Return whether a name is one that `write` gives."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def write(url: str, chunks: Iterable[bytes]) -> str:
    """Write a file, all of it or nothing, and return its name.

    Raises:
        JobError: `handoff_unavailable`.
    """
    name = PREFIX + uuid.uuid4().hex
    with _store_errors():
        store, root = _place(url)
        store.makedirs(root, exist_ok=True)
        try:
            with store.open(f"{root}/{name}", "wb") as file:
                for chunk in chunks:
                    file.write(len(chunk).to_bytes(4, "big") + chunk)
        except BaseException:
            with suppress(Exception):  # what made it fail may be the store
                store.rm_file(f"{root}/{name}")
            raise
    return name


def read(url: str | None, name: str, largest: int, missing: JobError) -> Iterator[bytes]:
    """Yield the chunks of a file, none of more than `largest` bytes; `missing` is raised if there is no such file.

    Raises:
        JobError: `handoff_unavailable`, `handoff_unreadable`.
    """
    with _store_errors(missing):
        store, root = _place(url)
        with store.open(f"{root}/{name}", "rb") as file:
            while head := file.read(4):
                size = int.from_bytes(head, "big")
                chunk = file.read(size) if len(head) == 4 and size <= largest else b""
                if len(chunk) != size or len(head) < 4:
                    raise JobError(ErrorCode.HANDOFF_UNREADABLE, "the file of the audio is damaged")
                yield chunk


def drop(url: str, name: str) -> None:
    """Remove a file, if it is there.

    Raises:
        JobError: `handoff_unavailable`.
    """
    with _store_errors(), suppress(FileNotFoundError):
        store, root = _place(url)
        store.rm_file(f"{root}/{name}")


def sweep(url: str, before: float, spare: Collection[str]) -> int:
    """Remove the files last written `before` then (Unix seconds), but for those to `spare`; return how many there were.

    Raises:
        JobError: `handoff_unavailable`.
    """
    with _store_errors():
        store, root = _place(url)
        store.invalidate_cache()  # what this process wrote long ago may be gone, and others wrote since
        if not store.exists(root):
            return 0
        names = [str(path).rpartition("/")[2] for path in store.ls(root, detail=False)]
        removed = 0
        for name in names:
            if is_ours(name) and name not in spare:
                with suppress(FileNotFoundError):  # another worker sweeps, too
                    if store.modified(f"{root}/{name}").timestamp() < before:
                        store.rm_file(f"{root}/{name}")
                        removed += 1
        return removed


def _place(url: str | None) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 - an extra

    if not url:
        raise JobError(ErrorCode.HANDOFF_UNREADABLE, "the audio lies under HANDOFF_URL, which is not set here")
    store, root = fsspec.url_to_fs(url)
    return store, root.rstrip("/")


@contextmanager
def _store_errors(missing: JobError | None = None) -> Iterator[None]:
    try:
        yield
    except JobError:
        raise
    except FileNotFoundError as error:
        raise missing or JobError(ErrorCode.HANDOFF_UNAVAILABLE, "HANDOFF_URL names no place that exists") from error
    except Exception as error:  # each store has exceptions of its own, and none of them is this program's fault
        raise JobError(
            ErrorCode.HANDOFF_UNAVAILABLE, f"the store of HANDOFF_URL cannot be used: {type(error).__name__}"
        ) from error
