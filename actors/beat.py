"""Send a worker's heartbeat, reclaim the messages of workers whose heartbeat stopped, and count what killed them."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import dramatiq
import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.middleware import Middleware

from actors import process
from actors.consumer import acks_key
from actors.retries import patiently
from voicemill.errors import ErrorCode, JobError
from voicemill.store import keys
from voicemill.store.queue import job_of

BEAT = 5.0  # seconds between two signs of life; well inside the broker's heartbeat_timeout
AGAIN = 1.0  # seconds until the next try where a beat failed: who lives is to be heard soon after Redis is back
BEGUN_KEY = f"{keys.NAMESPACE}:begun"

_SCRIPT = (Path(__file__).parent / "beat.lua").read_text(encoding="utf-8")

log = structlog.get_logger(__name__)


class Beat(Middleware):
    """Send heartbeats from a separate thread until the worker has drained, so that a busy worker counts as alive.

    Nothing that takes time runs on that thread: a worker that is silent for the broker's `heartbeat_timeout` loses its
    messages to the others.
    """

    def __init__(self, max_kills: int) -> None:
        self.max_kills = max_kills
        self._said: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        self._ended = threading.Event()

    def before_worker_boot(self, broker: Any, _worker: dramatiq.Worker) -> None:
        """Be known before the first message is taken: one killed with it in hand would count as a stranger."""
        try:
            seconds, microseconds = store.redis.time()
            store.redis.zadd(keys.HEARTBEATS, {broker.broker_id: seconds * 1000 + microseconds // 1000})
        except redis.RedisError as error:  # it is away again: no message can be taken either
            log.warning("Heartbeat failed, trying again", reason=str(error))

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Begin.

        Raises:
            SystemExit: 2, where `-Q` names none of the worker's queues: it would idle for ever and call itself ready.
        """
        taken_from = sorted(worker.consumers)
        if not taken_from:
            declared = ", ".join(sorted(broker.get_declared_actors()))
            process.give_up(declared, "-Q names no queue of this worker's", process.USAGE)
        self._said["stages"] = [queue for queue in taken_from if not queue.endswith(".DQ")]
        threading.Thread(target=self._run, args=(broker, taken_from, worker), name="beat", daemon=True).start()

    def after_worker_shutdown(self, broker: Any, worker: dramatiq.Worker) -> None:
        """End; the worker no longer counts among the present, and what it could not end in time goes to the others."""
        self._ended.set()
        try:
            for queue in worker.consumers:
                _hand_back(broker, queue)
            store.redis.hdel(keys.WORKERS, broker.broker_id)
        except redis.RedisError as error:  # then it is missed in a while
            log.warning("Could not take leave of Redis: others take over in a while", reason=str(error))

    def _run(self, broker: Any, taken_from: list[str], worker: dramatiq.Worker) -> None:
        while not self._ended.is_set():
            _demand_hands(worker)
            pause = BEAT
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
        killed = broker.run_script(_SCRIPT, broker.broker_id, *limits, said, *taken_from)
        if killed:  # on another thread, since the handoff store may be slow
            letters = list(zip(killed[::2], killed[1::2], strict=True))
            threading.Thread(target=self._fail, args=(letters,), name="poison-messages", daemon=True).start()

    def _fail(self, letters: list[tuple[bytes, bytes]]) -> None:
        """Fail the jobs of messages that became dead letters; what Redis cannot store now the sweeper repeats."""
        for queue, data in letters:
            job_id, stage = job_of(data), queue.decode()
            if job_id is None:
                continue
            error = JobError(ErrorCode.WORKER_KILLED, f"{self.max_kills} workers died while they worked on it")
            log.error("Job failed", job=job_id, stage=stage, code=error.code, reason=error.message)
            try:
                store.jobs.fail(job_id, stage, error)
                store.audio.delete(job_id)
            except (redis.RedisError, JobError) as failure:
                log.warning("Failed job not recorded yet", job=job_id, reason=str(failure))


def _demand_hands(worker: dramatiq.Worker) -> None:
    """End a worker of which a thread has died: it would look well and do less, or nothing.

    At once, so that the message that the thread died of counts as one that kills workers, and ends no more than a few.
    """
    threads: list[threading.Thread] = [*worker.workers, *worker.consumers.values()]
    if not all(thread.is_alive() for thread in threads) and not process.draining.is_set():
        log.error("A thread of this worker has died: it ends, and others take over")
        os._exit(process.UNFIT)


def _hand_back(broker: Any, queue: str) -> None:
    """Put all that a stopping worker has taken from a queue back there; that it was told to stop is no death."""
    client = store.redis
    taken = client.smembers(acks_key(broker, queue))
    if taken:
        client.srem(BEGUN_KEY, *taken)
        broker.do_requeue(queue, *taken)


class Suspects(Middleware):
    """Lets messages that were at work when a worker died go one at a time, so that the right one is blamed."""

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._mine = threading.local()

    def before_process_message(self, _broker: dramatiq.Broker, message: MessageProxy) -> None:
        """Wait for the suspects before this one, and note that it is at work."""
        suspect = cast("str", message.options["redis_message_id"])
        if "~" in suspect:
            self._alone.acquire()
            self._mine.id = suspect
            patiently(lambda: store.redis.sadd(BEGUN_KEY, suspect))

    def after_process_message(
        self,
        broker: dramatiq.Broker,  # noqa: ARG002 - this and all below are Dramatiq's signature
        message: MessageProxy,  # noqa: ARG002
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """Let the next suspect go."""
        self._let_go()

    def after_skip_message(self, _broker: dramatiq.Broker, _message: MessageProxy) -> None:
        """Let the next suspect go."""
        self._let_go()

    def _let_go(self) -> None:
        suspect = getattr(self._mine, "id", None)
        if suspect is not None:
            self._mine.id = None
            self._alone.release()
            with suppress(redis.RedisError):  # it counts as at work until it is acknowledged
                store.redis.srem(BEGUN_KEY, suspect)
