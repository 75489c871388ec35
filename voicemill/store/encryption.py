"""The seal on audio that waits: Fernet, cryptography's recipe, with every chunk bound to its place in its entry.

So none can be left out, change places or come from another entry, and the end cannot be missing unnoticed. Part of the
backend's path: the standard library; cryptography only where `HANDOFF_KEY` asks for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from voicemill.errors import JobError

OVERHEAD = 1024  # bytes, more than what a token's frame, its padding and the mark take; base64 adds a third besides
_MARK = 32  # bytes of a SHA-256


def cipher() -> Any:
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


def seal(key: Any, entry: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of an entry sealed by the cipher `key`: at least one, so that an empty entry has an end, too."""
    rest = iter(chunks)
    number, chunk = 0, next(rest, b"")
    while True:
        following = next(rest, None)
        yield key.encrypt(_mark(entry, number, last=following is None) + chunk)
        if following is None:
            return
        number, chunk = number + 1, following


def unseal(key: Any, entry: str, tokens: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks that `seal` was given.

    Raises:
        JobError: `handoff_unreadable`: they were sealed with another key, or are not all of this entry in their order.
    """
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - an extra

    complete = False
    for number, token in enumerate(tokens):
        try:
            opened: bytes = key.decrypt(token)
        except InvalidToken:
            raise JobError("handoff_unreadable", "the audio is damaged, or sealed with another HANDOFF_KEY") from None
        mark, chunk = opened[:_MARK], opened[_MARK:]
        complete = mark == _mark(entry, number, last=True)
        if not complete and mark != _mark(entry, number, last=False):
            raise JobError("handoff_unreadable", "chunks of the audio changed places, or are another's")
        yield chunk
    if not complete:
        raise JobError("handoff_unreadable", "the end of the audio is missing")


def _mark(entry: str, number: int, *, last: bool) -> bytes:
    return hashlib.sha256(f"{entry} {number} {'last' if last else 'more'}".encode()).digest()
