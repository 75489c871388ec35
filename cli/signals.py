"""Signals that stop a command, handled so that a second one does not interrupt what the first has begun."""

from __future__ import annotations

import queue
import signal

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stops(*numbers: signal.Signals) -> queue.SimpleQueue[int]:
    """Return a queue into which each of these signals (`STOP`) is put when it arrives.

    Not an Event: a handler runs between any two steps of the main thread, also those of an earlier handler. That
    happens if Ctrl-C arrives both directly and through `make` or `timeout`; `Event.set` would then wait for a lock that
    it holds itself. `SimpleQueue.put` is reentrant.
    """
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers or STOP:
        signal.signal(number, lambda arrived, _: received.put(arrived))
    return received


def interrupt_once() -> None:
    """Raise KeyboardInterrupt at the first of the signals `STOP`, and ignore later ones during the clean-up."""
    for number in STOP:
        signal.signal(number, _interrupt)


def ignore() -> None:
    """Ignore the signals `STOP` from now on."""
    for number in STOP:  # not SIG_IGN, which child processes would inherit
        signal.signal(number, lambda *_: None)


def _interrupt(_number: int, _frame: object) -> None:
    ignore()
    raise KeyboardInterrupt
