"""HTTP for providers: bounds that SDKs lack, and the cause of a failed connection."""

from __future__ import annotations

import time
from collections.abc import Iterable

MAX_ANSWER = 8 * 2**20  # bytes, decompressed: 65,536 tokens, each a few characters escaped as \\uXXXX, are a quarter
CONNECTIONS = 64  # kept open by one process: more than a worker has threads


class OversizedAnswer(Exception):
    """An answer is longer than `MAX_ANSWER`."""


def read_bounded(pieces: Iterable[bytes], seconds: float) -> bytes:
    """Return the body of an answer, read from `pieces` as they arrive.

    Raises:
        OversizedAnswer: it is longer than `MAX_ANSWER`.
        TimeoutError: it took longer than `seconds`, although no single piece did.
    """
    end = time.monotonic() + seconds
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > MAX_ANSWER:
            raise OversizedAnswer
        if time.monotonic() > end:
            raise TimeoutError
    return bytes(body)


def is_unreachable(error: BaseException) -> bool:
    """Return whether an HTTP client failed because the address does not resolve or nothing listens there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError) or type(cause).__name__ in ("gaierror", "NameResolutionError"):
            return True
        inner = getattr(cause, "reason", None)  # urllib3 keeps the cause here
        held = [argument for argument in cause.args if isinstance(argument, BaseException)]
        cause = next(
            (
                found
                for found in (inner, *held, cause.__cause__, cause.__context__)
                if isinstance(found, BaseException) and found is not cause
            ),
            None,
        )
    return False
