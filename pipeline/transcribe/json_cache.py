"""Small JSON files that keep results which are slow to compute from one start to the next."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read(file: Path) -> Any:
    """Return the value in `file`, or None if it is missing, unreadable or damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write(file: Path, value: Any) -> None:
    """Write `value` to `file` atomically; do nothing in a read-only folder."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.write_text(json.dumps(value), encoding="utf-8")
        scratch.replace(file)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an advisory lock, so that of two starting workers one computes the value and the other waits for it.

    In a read-only folder there is no lock, since nothing can be kept there.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(file.open("w")), fcntl.LOCK_EX)
        yield
