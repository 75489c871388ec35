"""Debug logging of the diagnostic steps, from reading files to running a model."""

from __future__ import annotations

import logging

STEPS = ("static reading", "driver", "capability", "loading", "micro canary", "configured model")

_log = logging.getLogger(__name__)


def log(step: str, text: str, *values: object) -> None:
    """Log the result of a step at debug level."""
    _log.debug("Doctor step %d of %d, %s: " + text, STEPS.index(step) + 1, len(STEPS), step, *values)
