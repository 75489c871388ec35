"""Backpressure: decode begins nothing while its results have no room."""

from __future__ import annotations

import time

import structlog

from voicemill.lifecycle import FIRST, STAGES, stage_of
from voicemill.store import Store

INTERVAL = 1.0  # seconds between two checks of Redis

log = structlog.get_logger(__name__)


class Backpressure:
    """Holds decode back while the next queue or the handoff store is full."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reason: str | None = None
        self._until = 0.0

    def may_take(self, queue: str) -> bool:
        """Return whether a message of `queue` may be begun; asks Redis at most once in `INTERVAL` seconds."""
        if stage_of(queue) != FIRST or queue.endswith(".DQ"):
            return True
        if time.monotonic() >= self._until:
            reason = self._store.queues.full(STAGES[1], decoding=True)
            if (reason is None) != (self._reason is None):
                if reason is None:
                    log.info("Decoding resumed")
                else:
                    log.warning("Decoding paused", reason=reason)
            self._reason, self._until = reason, time.monotonic() + INTERVAL
        return self._reason is None
