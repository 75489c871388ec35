"""The transcription engine: messages go in as audio, transcripts come out. It needs neither Redis nor Dramatiq.

Importing this package imports nothing heavy; the model's libraries come with the first touch of `Engine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.transcribe.failures import EngineError, ModelError
from pipeline.transcribe.options import Options
from voicemill.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from pipeline.transcribe.engine import Engine, SlotInfo

__all__ = ["Engine", "EngineError", "ModelError", "Options", "Segment", "SlotInfo", "Transcript", "Word"]


def __getattr__(name: str) -> Any:
    """Import the heavy half when it is first asked for."""
    if name in ("Engine", "SlotInfo"):
        from pipeline.transcribe import engine  # noqa: PLC0415 - this is the point of the function

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
