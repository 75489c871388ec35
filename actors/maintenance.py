"""Run the sweeper in every worker, on a separate thread: a large backlog must never delay the heartbeat."""

from __future__ import annotations

import threading

import dramatiq
import redis
import structlog
from dramatiq.middleware import Middleware

from pipeline.sweeper import Sweeper
from voicemill.errors import JobError

INTERVAL = 5.0  # seconds between two checks whether a sweep is due

log = structlog.get_logger(__name__)


class Maintenance(Middleware):
    """Sweep while the worker runs. The thread is a daemon: an interrupted sweep is completed by the next one.

    Args:
        sweeper: of the worker's store.
        interval: seconds between two checks whether a sweep is due.
    """

    def __init__(self, sweeper: Sweeper, *, interval: float = INTERVAL) -> None:
        self._sweeper, self._interval = sweeper, interval
        self._ended = threading.Event()

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="maintenance", daemon=True).start()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Start no further sweep."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._sweeper.sweep_when_due()
            except (redis.RedisError, JobError) as error:
                log.warning("Sweep failed, trying again", reason=str(error))
            except Exception:  # the next sweep may find Redis in another state
                log.exception("Sweep failed, trying again")
            self._ended.wait(self._interval)
