"""Dramatiq's Redis broker as Voicemill runs it: it waits in Redis instead of polling, and leaves no message behind.

Part of the backend's path as far as a producer goes: the standard library, dramatiq and redis alone.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dramatiq
import redis
from dramatiq import Message
from dramatiq.brokers import redis as stock
from dramatiq.common import current_millis
from dramatiq.middleware import Middleware

from actors.consumer import FULL, Consumer
from voicemill.admission import Admission
from voicemill.errors import ErrorCode, JobError, Refused
from voicemill.store import keys
from voicemill.store.queue import SCHEMA, DeadLetter

if TYPE_CHECKING:
    from pipeline.transcribe import Engine

HEARTBEAT_TIMEOUT = 12_000  # milliseconds without a sign of life after which a worker's messages go to the others
DELAYED = 10_000  # messages that a worker holds until their time, some 2 kB each; those beyond are seen late
LOOK = 250  # milliseconds between looks of an idle thread at whether it is to stop
# What an actor `throws`: Dramatiq tells of it in a line, and Retries of what is a fault of ours among it.
EXPECTED = (JobError, redis.RedisError)

log = logging.getLogger("voicemill")


class Broker(stock.RedisBroker):
    """A RedisBroker whose consumers wait in Redis for the next message and cost little while idle.

    The client is the process's own at the time of use: a broker may be made before `REDIS_URL` is known, and survives a
    fork.
    """

    def __init__(self, middleware: list[Middleware]) -> None:
        self.stopping = threading.Event()
        self.blocking = True  # until a server refuses BLMOVE
        self.may_take: Callable[[str], bool] = lambda _queue: True  # whether messages of a queue may be begun now
        self.device = ""  # what this worker's work runs on, where that is worth showing
        self.engine: Engine | None = None  # of a transcribe worker
        self.gpus: Callable[[], list[dict[str, Any]]] = list  # how its GPUs are: memory, utilisation, temperature
        self.paused: Callable[[], str | None] = lambda: None  # why this worker takes no messages
        self.held: dict[str, dict[str, float]] = {}  # by queue: Redis's id of each message here, and when it is due
        self.rounds: dict[str, float] = {}  # when each queue was last looked into, without a failure (monotonic clock)
        self._registered: tuple[Any, dict[str, Any]] = (None, {})
        super().__init__(
            middleware=middleware,
            namespace=keys.NAMESPACE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            client=self.client,
        )

    @property
    def client(self) -> redis.Redis:
        """The client of this process."""
        return store.redis

    @client.setter
    def client(self, _client: redis.Redis) -> None:
        """Take no other: the base class would keep the one that it was made with."""

    @property
    def scripts(self) -> dict[str, Any]:
        """Dramatiq's Lua scripts, registered with the client of this process."""
        client = self.client
        if self._registered[0] is not client:
            self._registered = client, {name: client.register_script(text) for name, text in stock._scripts.items()}  # noqa: SLF001 - they have no public name
        return self._registered[1]

    @scripts.setter
    def scripts(self, _scripts: dict[str, Any]) -> None:
        """Take no other, for the same reason."""

    @property
    def consumer_class(self) -> type[Consumer]:
        """The consumer that waits in Redis."""
        return Consumer

    def run_script(self, text: str, *arguments: Any) -> Any:
        """Run a Lua script of ours on this broker's namespace."""
        scripts = self.scripts
        if text not in scripts:
            scripts[text] = self.client.register_script(text)
        return scripts[text](keys=[self.namespace], args=arguments)

    def fetch(self, queue_name: str, most: int, client: redis.Redis) -> list[bytes | None]:
        """Take up to `most` messages by Dramatiq's own script, over a client of the caller's choosing."""
        limits = (self.heartbeat_timeout, self.dead_message_ttl, 0, self._max_unpack_size())
        arguments = ["fetch", current_millis(), queue_name, self.broker_id, *limits, most]
        found = self.scripts["dispatch"](keys=[self.namespace], args=arguments, client=client)
        return cast("list[bytes | None]", found)

    def _should_do_maintenance(self, command: str) -> int:  # noqa: ARG002 - Dramatiq's signature
        """Leave the maintenance to actors/beat.py, which does it by the clock and not by chance."""
        return 0


class Stopping(Middleware):
    """Ends the consumers' waits when the worker stops, and bounds how long it drains and how much it takes ahead."""

    def __init__(self, shutdown_timeout: float) -> None:
        self.shutdown_timeout = shutdown_timeout  # seconds
        self.consumers: list[Any] = []

    def before_worker_boot(self, _broker: dramatiq.Broker, worker: Any) -> None:
        """Take as many messages as there are threads, for what waits here could be at work elsewhere. Stop quickly."""
        worker.queue_prefetch = worker.worker_threads
        worker.delay_prefetch = max(worker.delay_prefetch, DELAYED)
        worker.worker_timeout = LOOK
        # SHUTDOWN_TIMEOUT rules, and no second number on the command line.
        stop, limit = worker.stop, int(self.shutdown_timeout * 1000)
        worker.stop = lambda timeout=limit: stop(timeout=limit)  # noqa: ARG005

    def after_consumer_thread_boot(self, _broker: dramatiq.Broker, thread: Any) -> None:
        """Remember whom to wake."""
        self.consumers.append(thread)

    def before_worker_shutdown(self, broker: dramatiq.Broker, _worker: Any) -> None:
        """Wake all consumers; they fetch nothing any more."""
        from actors import process  # noqa: PLC0415 - not on a backend's path

        process.draining.set()
        cast("Broker", broker).stopping.set()
        for thread in self.consumers:
            if thread.consumer is not None:
                thread.consumer.interrupt()


class Brake:
    """Lets decode begin nothing while what it makes has no place: the next queue or the handoff store is full."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._until = 0.0

    def __call__(self, queue: str) -> bool:
        """Tell whether a message of `queue` may be begun; asks Redis at most once in `FULL` seconds."""
        if queue != "decode":
            return True
        if time.monotonic() >= self._until:
            reason = store.queues.full("transcribe", decoding=True)
            if (reason is None) != (self._reason is None):
                log.warning("Decoding goes on" if reason is None else f"Decoding pauses: {reason}")
            self._reason, self._until = reason, time.monotonic() + FULL
        return self._reason is None


_brokers: dict[str, Broker] = {}


def in_worker() -> bool:
    """Tell whether this process is a worker of the `dramatiq` command, and not a backend or that command's master."""
    return multiprocessing.parent_process() is not None and "dramatiq.cli" in sys.modules


def for_process(stage: str) -> Broker:
    """Return the broker of this process: with all that a worker of `stage` needs, or what it takes to send.

    It becomes Dramatiq's global broker where there is none yet, so that an application keeps its own.
    """
    kind = "worker" if in_worker() else "producer"
    if kind not in _brokers:
        _brokers[kind] = _worker(stage) if kind == "worker" else Broker(middleware=[Admission()])
        if dramatiq.broker.global_broker is None:
            dramatiq.set_broker(_brokers[kind])
    return _brokers[kind]


def _worker(stage: str) -> Broker:
    from dramatiq.middleware import CurrentMessage  # noqa: PLC0415 - a backend pays for none of these

    from actors import gpus, process  # noqa: PLC0415
    from actors.beat import Beat, Suspects  # noqa: PLC0415
    from actors.maintenance import Maintenance  # noqa: PLC0415
    from actors.retries import Retries  # noqa: PLC0415
    from actors.selftest import SelfTest  # noqa: PLC0415
    from actors.tracking import Tracking  # noqa: PLC0415

    chosen = process.prepare(stage)
    self_test, brake = SelfTest(stage), Brake()
    work = [Stopping(chosen.shutdown_timeout), CurrentMessage(), Tracking(), Suspects(), Retries(self_test)]
    broker = Broker(middleware=[*work, self_test, Beat(chosen.max_worker_kills), Maintenance()])
    broker.may_take = lambda queue: self_test.may_take(queue) and brake(queue)
    broker.paused = lambda: self_test.reason
    if stage == "decode":
        from pipeline.decode import selftest  # noqa: PLC0415

        media_root = Path(chosen.media_root) if chosen.media_root else None
        self_test.test = lambda: selftest.run(media_root)
    if chosen.metrics_port is not None:
        from actors import metrics  # noqa: PLC0415

        metrics.install(broker, stage, chosen.metrics_host, chosen.metrics_port)
    if stage == "transcribe":
        self_test.test = lambda: _check_engine(broker)
        broker.gpus = gpus.read
        gpus.read()  # so that the first heartbeat, after the model has loaded, knows them
    return broker


def _check_engine(broker: Broker) -> None:
    """Raise `gpu_unfit` if the engine of a transcribe worker has no slot left; before it has loaded it is fit."""
    if broker.engine is not None and not broker.engine.alive:
        raise JobError(ErrorCode.GPU_UNFIT, "no slot of the engine is left")


def enqueue_stage(broker: Broker, stage: str, job_id: str) -> None:
    """Send a job to the queue of a stage, under its own id."""
    broker.enqueue(Message(stage, stage, (job_id,), {"schema": SCHEMA}, {}, message_id=job_id))


def enqueue_decode(broker: Broker, job_id: str, source: str, options: dict[str, Any]) -> None:
    """Send a job back to decode, as its sender did."""
    broker.enqueue(Message("decode", "decode", (source,), {**options, "schema": SCHEMA}, {}, message_id=job_id))


def enqueue_again(letter: DeadLetter) -> str | None:
    """Send a dead letter's job to where its work can go on, and return that queue.

    None: its record is gone, or it has ended otherwise meanwhile.

    Raises:
        Refused: the system is full; the letter stays where it is.
    """
    try:
        if store.queues.resumes_in(letter) == "decode":
            store.queues.demand_room("decode")  # before the job is revived: it is not to be left without a message
    except JobError as error:
        raise Refused(error) from None
    queue = store.queues.revive(letter)
    if queue is None:
        return None
    sender = for_process("decode")
    if queue == "decode":
        job = store.jobs.get(letter.job_id)
        options = job.options | {"metadata": job.metadata}
        enqueue_decode(sender, letter.job_id, store.jobs.raw_source(letter.job_id), options)
    else:
        enqueue_stage(sender, queue, letter.job_id)
    store.queues.drop(letter)  # last: whoever is interrupted before it may retry again
    return queue
