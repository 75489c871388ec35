"""Dramatiq's Redis broker as Voicemill runs it: it waits in Redis instead of polling, and leaves no message behind.

Part of the backend's path as far as a producer goes: the standard library, dramatiq and redis alone.
"""

from __future__ import annotations

import logging
import multiprocessing
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import dramatiq
import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers import redis as stock
from dramatiq.common import compute_backoff, current_millis
from dramatiq.errors import ConnectionClosed, DecodeError
from dramatiq.middleware import Middleware

from actors.admission import SCHEMA, Admission, Refused
from pipeline import connection, jobs, queues
from pipeline.errors import JobError
from pipeline.queues import DeadLetter

if TYPE_CHECKING:
    from pipeline.transcribe import Engine

BLOCK = 7.0  # seconds that an idle consumer waits in Redis
BLOCK_TIMEOUT = 10.0  # seconds until a connection that should have answered after BLOCK counts as lost
HEARTBEAT_TIMEOUT = 12_000  # milliseconds without a sign of life after which a worker's messages go to the others
RECONCILE = 30.0  # seconds between two comparisons of what Redis thinks that we hold with what we hold
LOOK = 250  # milliseconds between looks of an idle thread at whether it is to stop
POLL = 1000  # milliseconds at most between two looks into an empty queue, where a server does not let us wait in it
FULL = 1.0  # seconds between looks around while as many messages are at work as may be

log = logging.getLogger("voicemill")


class Broker(stock.RedisBroker):
    """A RedisBroker on `pipeline.connection`, whose consumers learn of a message at once and cost little while idle.

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
        self.held: dict[str, dict[str, float]] = {}  # by queue: Redis's id of each message here, and when it is due
        self.rounds: dict[str, float] = {}  # when each queue was last looked into, without a failure (monotonic clock)
        self._registered: tuple[Any, dict[str, Any]] = (None, {})
        super().__init__(
            middleware=middleware,
            namespace=connection.NAMESPACE,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            client=self.client,
        )

    @property
    def client(self) -> redis.Redis:
        """The client of this process."""
        return connection.client()

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


class Consumer(stock._RedisConsumer):  # noqa: SLF001 - the only consumer there is
    """Takes messages from one queue. `__next__` blocks in Redis until there is one, for at most `BLOCK` seconds.

    `BLMOVE q q LEFT LEFT` moves the head of a list onto itself: it returns as soon as the list is not empty and changes
    nothing, so producers need not know of it. The message is then fetched by Dramatiq's own script.
    """

    def __init__(self, broker: Broker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self.held = broker.held.setdefault(queue_name, {})
        if queue_name.endswith(".DQ"):
            self.held.clear()  # Dramatiq drops delayed messages from memory when it makes a new consumer
        self.list = f"{broker.namespace}:{queue_name}"
        self.acks = acks_key(broker, queue_name)
        self.room = threading.Event()
        # One connection and no pool: `interrupt` has to know which. And no retries: where the answer to a fetch is
        # lost, a new consumer is to look at once for the messages in it, and not to fetch others.
        self.waiter: redis.Redis | None = None
        if broker.blocking:
            try:
                self.waiter = connection.connect(socket_timeout=BLOCK_TIMEOUT, retries=0).client()
            except redis.RedisError as error:
                raise ConnectionClosed(error) from None
        broker.rounds.setdefault(queue_name, time.monotonic())
        self.next_reconciliation = time.monotonic()
        self.more = False  # whether the last fetch got all that it asked for: then it is not worth a look beforehand

    def __next__(self) -> MessageProxy | None:
        """Return the next message; None where there is none for now, so that delayed ones are looked after.

        Raises:
            ConnectionClosed: Redis cannot be used for now; Dramatiq makes a new consumer in a while.
        """
        try:
            if not self.message_cache:
                self._reconcile()
                found = self._wait()
                self.broker.rounds[self.queue_name] = time.monotonic()
                if not found:
                    return None
                self._fetch()
            return self._first()
        except redis.RedisError as error:
            if self.broker.stopping.is_set():
                return None
            raise ConnectionClosed(error) from None

    @property
    def outstanding_message_count(self) -> int:
        """How many messages are here, those included that an earlier consumer of the queue took."""
        return len(self.held) + len(self.message_cache)

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message; it is held until Redis knows."""
        self._release(super().ack, message)

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters; it is held until Redis knows."""
        self._release(super().nack, message)

    def requeue(self, messages: Any) -> None:
        """Give back messages that were not begun."""
        messages = list(messages)
        try:
            super().requeue(messages)
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None
        for message in messages:
            self.held.pop(message.options["redis_message_id"], None)

    def close(self) -> None:
        """Give back the connection that waits."""
        if self.waiter is not None:
            self.waiter.close()

    def _release(self, tell: Any, message: MessageProxy) -> None:
        try:
            tell(message)
        except redis.RedisError as error:  # a full or read-only Redis, too: Dramatiq tries again until it works
            raise ConnectionClosed(error) from None
        self.held.pop(message.options["redis_message_id"], None)
        self.room.set()

    def _wait(self) -> bool:
        """Wait for a message; tell whether it is worth fetching."""
        if not self._has_hands() or not self._there_is_one():
            return False
        if not self.broker.may_take(self.queue_name):
            self.broker.stopping.wait(FULL)
            return False
        return True

    def _has_hands(self) -> bool:
        """Tell whether a thread is free to begin a message; wait a moment where not."""
        if self.broker.stopping.is_set():
            self.broker.stopping.wait(0.05)  # let the loop see that it is to end; nothing is begun any more
            time.sleep(0.05)
            return False
        if self.outstanding_message_count >= self.prefetch:
            self.room.clear()
            if self.outstanding_message_count >= self.prefetch:
                self.room.wait(FULL)
            return False
        return True

    def _there_is_one(self) -> bool:
        """Wait in Redis for a message."""
        if self.waiter is None or self.more:
            return True
        due = min((eta for eta in self.held.values() if eta), default=None) if self.queue_name.endswith(".DQ") else None
        block = BLOCK if due is None else min(BLOCK, max(0.01, (due - current_millis()) / 1000))
        try:
            return self.waiter.execute_command("BLMOVE", self.list, self.list, "LEFT", "LEFT", block) is not None
        except redis.ResponseError as error:
            if isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error):
                self.broker.logger.warning("This Redis refuses BLMOVE (%s): polling instead.", error)
                self.broker.blocking, self.waiter = False, None
                return True
            raise

    def interrupt(self) -> None:
        """End the present wait, or the next one where none has begun: the worker is to stop."""
        waiting: Any = self.waiter.connection if self.waiter is not None else None
        line = waiting._sock if waiting is not None else None  # noqa: SLF001 - see below
        if line is not None:
            # Closed under its reader, redis-py's connection fails in ways of its own; shut down, it reads the end.
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _fetch(self) -> None:
        """Take as many messages as there are hands for; where there are none and we poll, wait longer each time."""
        room = self.prefetch - self.outstanding_message_count
        found = self.broker.fetch(self.queue_name, room, self.waiter or self.broker.client)
        self.more = len(found) == room
        self.message_cache = [data for data in found if data is not None]  # None: its body was evicted
        if found:
            self.misses = 0
        elif self.waiter is None:
            self.misses, pause = compute_backoff(self.misses, max_backoff=POLL)
            self.broker.stopping.wait(pause / 1000)

    def _first(self) -> MessageProxy | None:
        """Return the first of the messages that were fetched; what is none goes to the dead letters."""
        if not self.message_cache:
            return None
        data = self.message_cache.pop(0)
        try:
            message = MessageProxy(Message.decode(data))
            eta = message.options.get("eta")
            self.held[message.options["redis_message_id"]] = eta if isinstance(eta, int | float) else 0
        except (DecodeError, TypeError, AttributeError, KeyError):
            self._bury(data)
            return None
        return message

    def _bury(self, data: bytes) -> None:
        """Put what cannot be read among the dead letters; its id is known to Redis alone."""
        self.logger.error("What lies in queue %r is no message: it goes to the dead letters.", self.queue_name)
        for taken in self._noted() - set(self.held):
            if self.broker.client.hget(f"{self.list}.msgs", taken) == data:
                self.broker.do_nack(self.queue_name, taken)
                return

    def _noted(self) -> set[str]:
        """Return the ids of the messages that we hold, as Redis thinks."""
        return {member.decode() for member in self.broker.client.smembers(self.acks)}

    def _reconcile(self) -> None:
        """Put back what Redis thinks that we hold and we do not: a fetch whose answer was lost on the way."""
        now = time.monotonic()
        if now < self.next_reconciliation:
            return
        self.next_reconciliation = now + RECONCILE
        lost = self._noted() - set(self.held)
        if lost:
            self.logger.warning("Requeueing %d message(s) of %r that never arrived.", len(lost), self.queue_name)
            self.broker.do_requeue(self.queue_name, *lost)


class Stopping(Middleware):
    """Ends the consumers' waits when the worker stops, and bounds how long it drains and how much it takes ahead."""

    def __init__(self, shutdown_timeout: float) -> None:
        self.shutdown_timeout = shutdown_timeout  # seconds
        self.consumers: list[Any] = []

    def before_worker_boot(self, _broker: dramatiq.Broker, worker: Any) -> None:
        """Take as many messages as there are threads: what waits here could be at work elsewhere. Stop quickly."""
        worker.queue_prefetch = worker.worker_threads
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
            reason = queues.full("transcribe", decoding=True)
            if (reason is None) != (self._reason is None):
                log.warning("Decoding goes on" if reason is None else f"Decoding pauses: {reason}")
            self._reason, self._until = reason, time.monotonic() + FULL
        return self._reason is None


def acks_key(broker: Broker, queue: str) -> str:
    """Return the key of the ids of the messages that a worker has taken from a queue and not acknowledged."""
    return f"{broker.namespace}:__acks__.{broker.broker_id}.{queue}"


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
    from actors.retries import Retries  # noqa: PLC0415
    from actors.tracking import Tracking  # noqa: PLC0415

    chosen = process.prepare(stage)
    pulse = Beat(chosen.max_worker_kills)
    broker = Broker(
        middleware=[Stopping(chosen.shutdown_timeout), CurrentMessage(), Tracking(), Suspects(), Retries(), pulse]
    )
    broker.may_take = Brake()
    if chosen.metrics_port is not None:
        from actors import metrics  # noqa: PLC0415

        metrics.install(broker, stage, chosen.metrics_host, chosen.metrics_port)
    if stage == "transcribe":
        broker.gpus = gpus.read
    return broker


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
        if queues.goes_on_in(letter) == "decode":
            queues.demand_room("decode")  # before the job is revived: it is not to be left without a message
    except JobError as error:
        raise Refused(error) from None
    queue = queues.revive(letter)
    if queue is None:
        return None
    sender = for_process("decode")
    if queue == "decode":
        job = jobs.get(letter.job_id)
        options = job.options | {"metadata": job.metadata}
        enqueue_decode(sender, letter.job_id, jobs.raw_source(letter.job_id), options)
    else:
        enqueue_stage(sender, queue, letter.job_id)
    queues.drop(letter)  # last: whoever is interrupted before it may retry again
    return queue
