"""The transcription engine: audio in, transcripts out. It needs neither Redis nor Dramatiq.

Importing this package is cheap: the engine's libraries are imported when `Engine` is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.transcribe.failures import EngineError, ModelError
from pipeline.transcribe.options import DecodingOptions
from voicemill.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from pipeline.transcribe.engine import Engine, SlotInfo

__all__ = [
    "DecodingOptions",
    "Engine",
    "EngineError",
    "ModelError",
    "Options",
    "Segment",
    "SlotInfo",
    "Transcript",
    "Word",
]

Options = DecodingOptions  # the name that programs import


def __getattr__(name: str) -> Any:
    """Import the engine when it is first used."""
    if name in ("Engine", "SlotInfo"):
        from pipeline.transcribe import engine  # noqa: PLC0415 - keeps the package's own import light

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
