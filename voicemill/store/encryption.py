"""Encryption of waiting audio with Fernet, cryptography's recipe, each chunk bound to its place in its entry.

So no chunk can be left out, change places or come from another entry, and a missing end is noticed. cryptography is
imported only if a key is configured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from voicemill.errors import ErrorCode, JobError

OVERHEAD = 1024  # bytes, more than a token's frame, its padding and the mark take; base64 adds a third besides
_MARK = 32  # bytes of a SHA-256


def cipher(keys: str | None) -> Any:
    """Return the cipher of `HANDOFF_KEY`; None: no key is set.

    Of several keys the first encrypts, and all decrypt: that allows a change of keys.

    Raises:
        JobError: `handoff_unreadable`: these are not Fernet keys, or cryptography is not installed.
    """
    words = (keys or "").replace(",", " ").split()
    if not words:
        return None
    try:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - an extra
    except ImportError:
        message = "HANDOFF_KEY needs cryptography: install the extra `encryption`"
        raise JobError(ErrorCode.HANDOFF_UNREADABLE, message) from None
    try:
        return MultiFernet([Fernet(key) for key in words])
    except ValueError:
        raise JobError(ErrorCode.HANDOFF_UNREADABLE, "HANDOFF_KEY is not a Fernet key") from None


def encrypt(key: Any, entry: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of an entry encrypted with the cipher `key`: at least one, so that an empty entry has an end."""
    rest = iter(chunks)
    number, chunk = 0, next(rest, b"")
    while True:
        following = next(rest, None)
        yield key.encrypt(_mark(entry, number, last=following is None) + chunk)
        if following is None:
            return
        number, chunk = number + 1, following


def decrypt(key: Any, entry: str, tokens: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks that `encrypt` was given.

    Raises:
        JobError: `handoff_unreadable`: they were encrypted with another key, or are not all of this entry in order.
    """
    from cryptography.fernet import InvalidToken  # noqa: PLC0415 - an extra

    complete = False
    for number, token in enumerate(tokens):
        try:
            opened: bytes = key.decrypt(token)
        except InvalidToken:
            message = "the audio is damaged, or encrypted with another HANDOFF_KEY"
            raise JobError(ErrorCode.HANDOFF_UNREADABLE, message) from None
        mark, chunk = opened[:_MARK], opened[_MARK:]
        complete = mark == _mark(entry, number, last=True)
        if not complete and mark != _mark(entry, number, last=False):
            message = "chunks of the audio changed places, or are of another entry"
            raise JobError(ErrorCode.HANDOFF_UNREADABLE, message)
        yield chunk
    if not complete:
        raise JobError(ErrorCode.HANDOFF_UNREADABLE, "the end of the audio is missing")


def _mark(entry: str, number: int, *, last: bool) -> bytes:
    return hashlib.sha256(f"{entry} {number} {'last' if last else 'more'}".encode()).digest()
