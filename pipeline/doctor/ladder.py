"""The doctor's way up, from what only reads files to what runs a model: each rung says at debug level what it met."""

from __future__ import annotations

import logging

RUNGS = ("static reading", "driver", "capability", "loading", "micro canary", "configured model")

_log = logging.getLogger(__name__)


def tell(rung: str, text: str, *values: object) -> None:
    """Log what a rung met."""
    _log.debug("Rung %d of %d, %s: " + text, RUNGS.index(rung) + 1, len(RUNGS), rung, *values)
