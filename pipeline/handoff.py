"""Deprecated: use `voicemill.Client.upload`. These names stay for one release."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import BinaryIO

from voicemill.broker import BROKER

__all__ = ["delete_upload", "upload", "uploaded"]

warnings.warn("pipeline.handoff is deprecated: use voicemill.Client.upload", DeprecationWarning, stacklevel=2)


def upload(data: bytes | BinaryIO) -> str:
    """Store the bytes of a voice message, as `Client.upload` does."""
    return BROKER.store.audio.upload(data)


def uploaded(data: bytes | BinaryIO) -> AbstractContextManager[str]:
    """`upload` for a block that sends the source; if the block fails, nothing is left of it."""
    return BROKER.store.audio.uploaded(data)


def delete_upload(source: str) -> None:
    """Remove an upload, if it is there."""
    BROKER.store.audio.delete_upload(source)
