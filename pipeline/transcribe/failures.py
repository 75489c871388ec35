"""How the engine itself can fail. A message that fails gets a JobError."""

from __future__ import annotations


class EngineError(Exception):
    """The engine cannot start; the message is a sentence that says why and what to do."""


class ModelError(EngineError):
    """The model is unknown, incomplete, damaged or out of reach."""


class UnfitError(EngineError):
    """The model cannot work on this device."""


class OutOfMemoryError(Exception):
    """The device has no room for a batch; a smaller one may fit."""


class DiedError(Exception):
    """A slot's process died during its work, or cannot be trusted any more."""


class BrokenError(DiedError):
    """The speech engine raised an unexpected error: on a GPU, every later call may fail too."""


class GoneError(DiedError):
    """The process was dead before the work reached it."""


class HungError(Exception):
    """A slot's process was killed because its work exceeded the time limit."""
