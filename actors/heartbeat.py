"""Send a worker's heartbeat, reclaim the messages of workers whose heartbeat stopped, and count what killed them."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import dramatiq
import redis
import structlog
from dramatiq.middleware import Middleware

from actors import process
from voicemill.errors import ErrorCode, JobError
from voicemill.lifecycle import stage_of
from voicemill.store import Store, keys, scripts
from voicemill.store.queue import job_of

INTERVAL = 5.0  # seconds between two heartbeats; well inside the broker's heartbeat_timeout
AGAIN = 1.0  # seconds until the next attempt after a heartbeat failed: the living are to be known soon after an outage

SCRIPT = scripts.load(Path(__file__).with_name("heartbeat.lua"))

log = structlog.get_logger(__name__)


class Heartbeat(Middleware):
    """Send heartbeats from a separate thread until the worker has drained, so that a busy worker counts as alive.

    Nothing that takes time runs on that thread: a worker that is silent for the broker's `heartbeat_timeout` loses its
    messages to the others.

    Args:
        max_kills: how many workers a message may kill before it becomes a dead letter.
        interval: seconds between two heartbeats.
    """

    def __init__(self, max_kills: int, *, interval: float = INTERVAL) -> None:
        self.max_kills, self.interval = max_kills, interval
        self._said: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        self._ended = threading.Event()

    def before_worker_boot(self, broker: Any, _worker: dramatiq.Worker) -> None:
        """Register before the first message is taken: a worker killed with it in hand would count as a stranger."""
        try:
            seconds, microseconds = broker.client.time()
            broker.client.zadd(keys.HEARTBEATS, {broker.broker_id: seconds * 1000 + microseconds // 1000})
        except redis.RedisError as error:  # it is away again: no message can be taken either
            log.warning("Heartbeat failed, trying again", reason=str(error))

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Start the thread.

        Raises:
            SystemExit: 2, if `-Q` names none of the worker's queues: it would idle for ever and call itself ready.
        """
        taken_from = sorted(worker.consumers)
        if not taken_from:
            declared = ", ".join(sorted(broker.get_declared_actors()))
            process.give_up(declared, "-Q names no queue of this worker's", process.USAGE)
        self._said["stages"] = [queue for queue in taken_from if not queue.endswith(".DQ")]
        threading.Thread(target=self._run, args=(broker, taken_from, worker), name="heartbeat", daemon=True).start()

    def after_worker_shutdown(self, broker: Any, worker: dramatiq.Worker) -> None:
        """Deregister the worker, and return to the queues what it could not finish in time."""
        self._ended.set()
        try:
            for queue in worker.consumers:
                _hand_back(broker, queue)
            broker.client.hdel(keys.WORKERS, broker.broker_id)
        except redis.RedisError as error:  # then it is missed in a while
            log.warning("Worker not deregistered: its messages are reclaimed in a while", reason=str(error))

    def _run(self, broker: Any, taken_from: list[str], worker: dramatiq.Worker) -> None:
        while not self._ended.is_set():
            _demand_threads(worker)
            pause = self.interval
            try:
                self._beat(broker, taken_from)
            except redis.RedisError as error:
                log.warning("Heartbeat failed, trying again", reason=str(error))
                pause = AGAIN
            except Exception:  # without its heartbeat a living worker would lose its messages to the others
                log.exception("Heartbeat failed, trying again")
            self._ended.wait(pause)

    def _beat(self, broker: Any, taken_from: list[str]) -> None:
        said = json.dumps(self._said | {"device": broker.device, "gpus": broker.gpus(), "paused": broker.paused()})
        limits = (broker.heartbeat_timeout, self.max_kills, broker.dead_message_ttl)
        killed = broker.run_script(SCRIPT, broker.broker_id, *limits, said, *taken_from)
        if killed:  # on another thread, since the handoff store may be slow
            letters = list(zip(killed[::2], killed[1::2], strict=True))
            threading.Thread(target=self._fail, args=(broker.store, letters), name="poison", daemon=True).start()

    def _fail(self, store: Store, letters: list[tuple[bytes, bytes]]) -> None:
        """Fail the jobs of messages that became dead letters; what Redis cannot store now the sweeper repeats."""
        for queue, data in letters:
            job_id, stage = job_of(data), stage_of(queue.decode())
            if job_id is None:
                continue
            error = JobError(ErrorCode.WORKER_KILLED, f"{self.max_kills} workers died while they worked on it")
            log.error("Job failed", job=job_id, stage=stage, code=error.code, reason=error.message)
            try:
                store.jobs.fail(job_id, stage, error)
                store.audio.delete(job_id)
            except (redis.RedisError, JobError) as failure:
                log.warning("Failed job not recorded yet", job=job_id, reason=str(failure))


def _demand_threads(worker: dramatiq.Worker) -> None:
    """End a worker of which a thread has died: it would look well and do less, or nothing.

    At once, so that the message that the thread died of counts as one that kills workers, and ends no more than a few.
    """
    threads: list[threading.Thread] = [*worker.workers, *worker.consumers.values()]
    if not all(thread.is_alive() for thread in threads) and not process.draining.is_set():
        log.error("A thread of this worker has died: the worker ends, and others take over")
        os._exit(process.UNFIT)


def _hand_back(broker: Any, queue: str) -> None:
    """Return all that a stopping worker has taken from a queue; a message counts no death for it."""
    taken = broker.client.smembers(keys.acks(broker.broker_id, queue))
    if taken:
        broker.client.srem(keys.BEGUN, *taken)
        broker.do_requeue(queue, *taken)
