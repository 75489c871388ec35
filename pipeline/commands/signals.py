"""How a command waits to be told to stop: without the locks in which a second signal would catch the first one."""

from __future__ import annotations

import queue
import signal

TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stops(*numbers: signal.Signals) -> queue.SimpleQueue[int]:
    """Return a queue into which each of these signals (`TOLD`) is put as it comes.

    Not an Event: a handler runs between any two steps of the main thread, those of an earlier handler too, as happens
    when Ctrl-C reaches us directly and through `make` or `timeout`, and `Event.set` would then wait for a lock that it
    holds itself. `SimpleQueue.put` is made to be interrupted.
    """
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers or TOLD:
        signal.signal(number, lambda signalled, _: told.put(signalled))
    return told
