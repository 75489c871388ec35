"""A time limit for calls that have none of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what `call` returns, or raise what it raises.

    It runs in a daemon thread, which is abandoned at the time limit and does not keep the process alive.

    Raises:
        TimeoutError: it has not returned within `seconds`.
    """
    ended: Future[Result] = Future()

    def work() -> None:
        try:
            ended.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            ended.set_exception(error)

    threading.Thread(target=work, name="deadline", daemon=True).start()
    return ended.result(max(0.0, seconds))
