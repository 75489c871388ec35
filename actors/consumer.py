"""Takes messages from one queue: it waits in Redis instead of polling, and knows what it holds."""

from __future__ import annotations

import dataclasses
import math
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.brokers import redis as stock
from dramatiq.common import compute_backoff, current_millis
from dramatiq.errors import ConnectionClosed, DecodeError

from voicemill.options import is_text
from voicemill.store import connection, keys

if TYPE_CHECKING:
    from actors.broker import Broker

BLOCK = 7.0  # seconds that an idle consumer waits in Redis
BLOCK_TIMEOUT = 10.0  # seconds until a connection that should have answered after BLOCK counts as lost
RECONCILE = 30.0  # seconds between two comparisons of what Redis thinks that we hold with what we hold
POLL = 1000  # milliseconds at most between two looks into an empty queue, where a server does not let us wait in it
BRISK = 0.05  # seconds of a thread for a message under which more are taken ahead: they wait hardly longer than that
FULL = 1.0  # seconds between checks while as many messages are at work as may be
# Options that a message may bring; the others are our actors' own, and a wrong `throws` kills a thread.
OPTIONS = ("redis_message_id", "eta", "retries")
LAST = 2**53  # milliseconds: no delayed message may wait for a later time than that


class Consumer(stock._RedisConsumer):  # noqa: SLF001 - the only consumer there is
    """Takes messages from one queue. `__next__` blocks in Redis until there is one, for at most `BLOCK` seconds.

    `BLMOVE q q LEFT LEFT` moves the head of a list onto itself: it returns as soon as the list is not empty and changes
    nothing, so producers need not know of it. The message is then fetched by Dramatiq's own script.

    Args:
        broker: of the worker.
        queue_name: the queue.
        prefetch: how many messages to take: as many as there are threads.
        timeout: Dramatiq's, which is not used.
        clock: tells when messages were fetched and compared last (seconds).
    """

    def __init__(
        self,
        broker: Broker,
        queue_name: str,
        prefetch: int,
        timeout: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self.clock = clock
        self.held = broker.held.setdefault(queue_name, {})
        if queue_name.endswith(".DQ"):
            self.held.clear()  # Dramatiq drops delayed messages from memory when it makes a new consumer
        self.list = f"{broker.namespace}:{queue_name}"
        self.acks = keys.acks(broker.broker_id, queue_name)
        self.room = threading.Event()
        # One connection and no pool: `interrupt` has to know which. And no retries: where the answer to a fetch is
        # lost, a new consumer is to look at once for the messages in it, and not to fetch others.
        self.waiter: redis.Redis | None = None
        if broker.blocking:
            try:
                self.waiter = broker.store.connect(socket_timeout=BLOCK_TIMEOUT, retries=0).client()
            except redis.RedisError as error:
                raise ConnectionClosed(error) from None
        broker.rounds.setdefault(queue_name, time.monotonic())
        self.next_reconciliation = clock()
        self.more = False  # whether the last fetch got all that it asked for: then it is not worth a look beforehand
        self.most = prefetch  # messages that may be here at once
        self.fetched = -math.inf  # when messages were fetched last (monotonic clock)
        self.brisk = 0  # messages fetched in a row after which a thread was soon free again

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

    def _release(self, acknowledge: Any, message: MessageProxy) -> None:
        try:
            acknowledge(message)
        except redis.RedisError as error:  # a full or read-only Redis, too: Dramatiq tries again until it works
            raise ConnectionClosed(error) from None
        self.held.pop(message.options["redis_message_id"], None)
        self.room.set()

    def _wait(self) -> bool:
        """Wait for a message; return whether it is worth fetching."""
        if not self._has_threads() or not self._there_is_one():
            return False
        if not self.broker.may_take(self.queue_name):
            self.broker.stopping.wait(FULL)
            return False
        return True

    def _has_threads(self) -> bool:
        """Return whether a thread is free to begin a message; wait a moment if not."""
        if self.broker.stopping.is_set():
            self.broker.stopping.wait(0.05)  # let the loop see that it is to end; nothing is begun any more
            time.sleep(0.05)
            return False
        if self.outstanding_message_count >= self.most:
            self.room.clear()
            if self.outstanding_message_count >= self.most:
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
            if connection.may_pass(error):
                raise
            # A right that is missing, a server too old, a proxy that knows no waiting: each says so in its own words.
            self.broker.logger.warning("This Redis refuses BLMOVE (%s): polling instead.", error)
            self.close()
            self.broker.blocking, self.waiter = False, None
            return True

    def interrupt(self) -> None:
        """End the present wait, or the next one where none has begun: the worker is to stop."""
        waiting: Any = self.waiter.connection if self.waiter is not None else None
        line = waiting._sock if waiting is not None else None  # noqa: SLF001 - see below
        if line is not None:
            # Closed under its reader, redis-py's connection fails in ways of its own; shut down, it reads the end.
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _fetch(self) -> None:
        """Take as many messages as there are threads for; if there are none and we poll, wait longer each time."""
        room = self.most - self.outstanding_message_count
        found = self.broker.fetch(self.queue_name, room, self.waiter or self.broker.client)
        self.more = len(found) == room
        self._look_ahead(len(found))
        self.message_cache = [data for data in found if data is not None]  # None: its body was evicted
        if found:
            self.misses = 0
        elif self.waiter is None:
            self.misses, pause = compute_backoff(self.misses, max_backoff=POLL)
            self.broker.stopping.wait(pause / 1000)

    def _look_ahead(self, found: int) -> None:
        """Take as many messages again as there are threads for while a backlog goes through quickly."""
        last, self.fetched = self.fetched, self.clock()
        quick = self.more and (self.fetched - last) * self.prefetch < BRISK * found
        self.brisk = self.brisk + found if quick else 0
        self.most = self.prefetch * 2 if self.brisk >= self.prefetch else self.prefetch

    def _first(self) -> MessageProxy | None:
        """Return the first of the messages that were fetched; what is not a message goes to the dead letters."""
        if not self.message_cache:
            return None
        data = self.message_cache.pop(0)
        try:
            message = read(data, self.queue_name)
        except DecodeError:
            self._bury(data)
            return None
        self.held[message.options["redis_message_id"]] = message.options.get("eta", 0)
        return MessageProxy(message)

    def _bury(self, data: bytes) -> None:
        """Put what cannot be read among the dead letters; its id is known to Redis alone."""
        self.logger.error("An entry of queue %r is not a message: it goes to the dead letters.", self.queue_name)
        for taken in self._unknown():
            if self.broker.client.hget(f"{self.list}.msgs", taken) == data:
                self.broker.do_nack(self.queue_name, taken)
                return

    def _unknown(self) -> set[bytes]:
        """Return the ids of the messages that we hold, as Redis thinks, and of which we know nothing."""
        noted: set[bytes] = self.broker.client.smembers(self.acks)
        return noted - {name.encode() for name in self.held}

    def _reconcile(self) -> None:
        """Put back what Redis thinks that we hold and we do not: a fetch whose answer was lost on the way."""
        now = self.clock()
        if now < self.next_reconciliation:
            return
        self.next_reconciliation = now + RECONCILE
        lost = self._unknown()
        if lost:
            self.logger.warning("Requeueing %d message(s) of %r that never arrived.", len(lost), self.queue_name)
            self.broker.do_requeue(self.queue_name, *lost)


def read(data: bytes, queue: str) -> Message[Any]:
    """Return the message that was in a queue, with those of its options that are a producer's.

    Whatever else Dramatiq takes for a message, its threads die of, or never give back.

    Raises:
        DecodeError: it is not a message of this queue.
    """
    message: Message[Any] = Message.decode(data)
    named = keys.is_id(message.message_id) and is_text(message.actor_name)
    if message.queue_name != queue or not named or not isinstance(message.kwargs, dict):
        raise DecodeError("it is for another queue, or nobody", data, None)
    try:
        options = {name: message.options[name] for name in OPTIONS if name in message.options}
        if queue.endswith(".DQ"):
            options["eta"] = options.get("eta") or 0
        else:
            options.pop("eta", None)  # the threads of this queue would wait for it
        times = 0 <= options.get("eta", 0) <= LAST and 0 <= options.get("retries", 0) <= LAST
    except (TypeError, AttributeError) as error:
        raise DecodeError("its options are invalid", data, error) from error
    if not times or not is_text(options.get("redis_message_id")):
        raise DecodeError("its options are out of bounds", data, None)
    return dataclasses.replace(message, options=options)
