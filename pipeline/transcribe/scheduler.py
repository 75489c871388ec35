"""Which windows go next: those of all messages wait here, and a free slot takes a batch of them at once.

Messages take turns, a window each, so that a long recording does not hold up short ones. Nothing waits on a timer: what
waits when a slot falls free is the batch. This is the one place of the engine where state changes under a lock.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.transcribe.message import Message, Task

if TYPE_CHECKING:
    from pipeline.transcribe.window import Window, WindowResult

ALIKE = 1.25  # the longest window of a batch is at most this many times the shortest, since all are padded to it
PADDED_ALIKE = 8.0  # seconds; shorter windows are all padded to the same length


class Scheduler:
    """The waiting room. Every method may be called from any thread.

    Args:
        shares: a batch holds at most one of this many parts of what waits, so that all slots have work.
        seconds: most audio in a batch of several windows: what comes meanwhile waits until it is done.
    """

    def __init__(self, shares: int = 1, seconds: float = math.inf) -> None:
        self._shares = shares
        self._seconds = seconds
        self._changed = threading.Condition()
        self._turns: deque[Message] = deque()  # messages of which a window may go, in the order of their turns
        self._alone: deque[Task] = deque()  # windows whose batch ended badly: each is tried by itself, before the rest
        self._unfinished: set[Message] = set()
        self._closed = False

    def add(self, message: Message) -> bool:
        """Let a message wait for its turn; False once the scheduler is closed."""
        with self._changed:
            if self._closed:
                return False
            self._unfinished.add(message)
            self._turns.append(message)
            self._changed.notify()
            return True

    def take(self, most: int, timeout: float) -> list[Task] | None:
        """Return the next batch of at most `most` windows; [] after `timeout` idle seconds, None once closed."""
        with self._changed:
            while not self._closed:
                if batch := self._next(most):
                    if self._turns or self._alone:
                        self._changed.notify()
                    return batch
                if not self._changed.wait(timeout):
                    return []
            return None

    def finish(self, task: Task, result: WindowResult) -> bool:
        """Note a window's result; the first tells the language. True when it was the message's last window."""
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

    def give_back(self, tasks: list[Task]) -> None:
        """Take windows back whose batch ended badly; each will be tried alone."""
        with self._changed:
            self._alone.extend(tasks)
            self._changed.notify_all()

    def drop(self, message: Message) -> None:
        """Forget a message that has failed, with all its windows that still wait."""
        with self._changed:
            message.waiting.clear()
            self._unfinished.discard(message)

    def close(self) -> list[Message]:
        """Hand out no further batch; return the messages that are not finished."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return list(self._unfinished)

    def _next(self, most: int) -> list[Task]:
        while self._alone:
            task = self._alone.popleft()
            if not task.message.future.done():
                return [task]
        self._forget_the_cancelled()
        waiting = sum(message.ready for message in self._turns)
        most = min(most, -(-waiting // self._shares))
        batch: list[Task] = []
        while self._turns and len(batch) < most:
            taken = self._round(batch, most)
            others = any(message not in {task.message for task in batch} for message in self._turns)
            if not taken or others:  # a message gets a second window into the batch only where nobody else waits
                break
        return batch

    def _forget_the_cancelled(self) -> None:
        for message in [message for message in self._turns if message.future.done()]:
            self._turns.remove(message)
            self._unfinished.discard(message)

    def _round(self, batch: list[Task], most: int) -> int:
        """Go once through the turns and put a window of each message into the batch where it is alike the first."""
        passed: list[Message] = []  # keep their place
        served: list[Message] = []  # go to the end
        before = len(batch)
        while self._turns and len(batch) < most:
            message = self._turns.popleft()
            task = Task(message, message.waiting[0])
            seconds = sum(one.window.duration for one in (*batch, task))
            if batch and (seconds > self._seconds or not _alike(batch[0].window, task.window)):
                passed.append(message)
                continue
            message.waiting.popleft()
            batch.append(task)
            if message.waiting and not message.held:
                served.append(message)
        self._turns.extendleft(reversed(passed))
        self._turns.extend(served)
        return len(batch) - before


def _alike(one: Window, two: Window) -> bool:
    short, long = sorted((one.duration, two.duration))
    return long <= max(PADDED_ALIKE, ALIKE * short)
