"""How the engine itself can fail, apart from the messages it is given (those fail with a JobError)."""

from __future__ import annotations


class EngineError(Exception):
    """The engine cannot start; the message is a sentence that says why and what to do."""


class ModelError(EngineError):
    """The model cannot be had."""


class UnfitError(EngineError):
    """The model cannot work on this device."""


class OutOfMemoryError(Exception):
    """The device has no room for a batch; a smaller one may fit."""


class DiedError(Exception):
    """A slot's process died in the middle of its work, or cannot be trusted any more."""


class BrokenError(DiedError):
    """The model's library raised what it should not: on a GPU, every later call may fail too."""


class GoneError(DiedError):
    """The process was dead before the work reached it."""


class HungError(Exception):
    """A slot's process was killed because its work went past the time limit."""
