"""The order of windows: those of all messages wait here, and a free slot takes a batch of them at once.

Messages take turns, one window each, and a new message goes first, so that a long recording does not delay short ones.
After `patience` seconds a message that has had a turn goes before new ones, so that it is not delayed for ever. No
timer delays a batch: a free slot takes what waits. This is the one module of the engine whose state changes under a
lock.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.transcribe.message import Message, WindowTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.transcribe.backends.base import WindowResult
    from pipeline.transcribe.window import Window

ALIKE = 1.25  # the longest window of a batch is at most this many times the shortest, since all are padded to it
PATIENCE = 5.0  # seconds after which a message that has had a turn goes before those that have not
PADDED_ALIKE = 8.0  # seconds; shorter windows are all padded to the same length


class Scheduler:
    """The windows that wait. Every method may be called from any thread.

    Args:
        shares: a batch holds at most one of this many parts of the waiting windows, so that all slots have work.
        seconds: most audio in a batch of several windows, since messages that arrive meanwhile wait for its end.
        give_way: whether later windows of long messages wait while short messages are being cut, which on a CPU they
            would only slow down.
        patience: seconds after which a message that has had a turn goes before those that have not.
    """

    def __init__(
        self, shares: int = 1, seconds: float = math.inf, *, give_way: bool = False, patience: float = PATIENCE
    ) -> None:
        self._shares = shares
        self._seconds = seconds
        self._give_way = give_way
        self._patience = patience
        self._arriving = 0  # messages that are being cut
        self._changed = threading.Condition()
        self._new: deque[Message] = deque()  # messages that have had no turn yet, in order of arrival
        self._turns: deque[Message] = deque()  # those that have, in order of their next one
        self._alone: deque[WindowTask] = deque()  # windows of failed batches: each is decoded alone, before the rest
        self._unfinished: set[Message] = set()
        self._closed = False

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Announce a message while it is being cut into windows."""
        with self._changed:
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1
                self._changed.notify_all()

    def add(self, message: Message) -> bool:
        """Queue a message; return False once the scheduler is closed."""
        with self._changed:
            if self._closed:
                return False
            self._unfinished.add(message)
            self._new.append(message)
            self._changed.notify()
            return True

    def take(self, most: int, timeout: float) -> list[WindowTask] | None:
        """Return the next batch of at most `most` windows; [] after `timeout` idle seconds, None once closed."""
        with self._changed:
            woken = True
            while not self._closed:
                if batch := self._next(most):
                    if self._new or self._turns or self._alone:
                        self._changed.notify()
                    return batch
                if not woken:
                    return []
                woken = self._changed.wait(timeout)  # after a timeout check once more: a notice may just have come
            return None

    def finish(self, task: WindowTask, result: WindowResult) -> bool:
        """Store a window's result; the first sets the language. Return whether it was the message's last window."""
        with self._changed:
            message = task.message
            message.results[task.index] = result
            if message.options.language is None:
                message.options = replace(message.options, language=result.language)
                message.language_probability = result.language_probability
            if message.held:
                message.held = False
                if message.waiting:
                    self._turns.append(message)
                    self._changed.notify_all()
            if len(message.results) < len(message.windows):
                return False
            self._unfinished.discard(message)
            return True

    def give_back(self, tasks: list[WindowTask]) -> None:
        """Take back the windows of a failed batch; each will be decoded alone."""
        with self._changed:
            self._alone.extend(tasks)
            self._changed.notify_all()

    def drop(self, message: Message) -> None:
        """Forget a message that has failed, and its waiting windows."""
        with self._changed:
            self._forget(message)

    def close(self) -> list[Message]:
        """Give out no further batch; return the unfinished messages."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return list(self._unfinished)

    def _next(self, most: int) -> list[WindowTask]:
        while self._alone:
            task = self._alone.popleft()
            if not task.message.future.done():
                return [task]
            self._forget(task.message)
        line = self._line()
        if not line:
            return []
        ready = sum(message.ready for message in line)
        batch = self._fill(line, min(most, -(-ready // self._shares)))
        served = dict.fromkeys(task.message for task in batch)  # in order, which is that of their next turns
        self._new = deque(message for message in self._new if message not in served)
        self._turns = deque(message for message in self._turns if message not in served)
        now = time.monotonic()
        for message in served:
            message.last_turn = now
            if message.ready and not message.held:
                self._turns.append(message)
        return batch

    def _line(self) -> list[Message]:
        """Return the messages that have windows to decode, in order of their turns; forget cancelled ones."""
        for message in [one for one in (*self._new, *self._turns) if one.future.done()]:
            self._forget(message)
        self._new = deque(message for message in self._new if message.ready)
        self._turns = deque(message for message in self._turns if message.ready)
        line = [*self._new, *self._turns]
        if self._turns and time.monotonic() - self._turns[0].last_turn > self._patience:
            line.insert(0, line.pop(len(self._new)))
        elif self._give_way and self._arriving and not self._new:
            return []
        return line

    def _forget(self, message: Message) -> None:
        message.waiting.clear()
        self._unfinished.discard(message)

    def _fill(self, line: list[Message], most: int) -> list[WindowTask]:
        """Take one window of similar length from each message; more from one message only if no other waits."""
        batch: list[WindowTask] = []
        seconds = 0.0
        while len(batch) < most:
            before = len(batch)
            for message in line:
                if len(batch) == most or not message.waiting or (message.held and before):
                    continue
                task = WindowTask(message, message.waiting[0])
                seconds += task.window.duration
                if batch and (seconds > self._seconds or not _alike(batch[0].window, task.window)):
                    seconds -= task.window.duration
                    continue
                message.waiting.popleft()
                batch.append(task)
            if len(batch) == before or len({task.message for task in batch}) < len(line):
                break
        return batch


def _alike(one: Window, two: Window) -> bool:
    short, long = sorted((one.duration, two.duration))
    return long <= max(PADDED_ALIKE, ALIKE * short)
