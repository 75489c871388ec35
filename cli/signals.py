"""How a command is told to stop, so that a second signal spoils nothing of what the first one has begun."""

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


def interrupt_once() -> None:
    """Have the first of the signals `TOLD` raise KeyboardInterrupt, and no later one break off the clean-up."""
    for number in TOLD:
        signal.signal(number, _interrupt)


def shut_out() -> None:
    """Let none of the signals `TOLD` do anything any more."""
    for number in TOLD:  # not SIG_IGN, which child processes would inherit
        signal.signal(number, lambda *_: None)


def _interrupt(_number: int, _frame: object) -> None:
    shut_out()
    raise KeyboardInterrupt
