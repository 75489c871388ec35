"""A slot to which the system refuses a process."""

import errno
import os

import pytest

from pipeline.transcribe import Engine, EngineError, slot


class RefusingPool:
    """A pool that cannot create its locks, as pebble's cannot where /dev/shm is full."""

    active = True

    def __init__(self, **_):
        pass

    def schedule(self, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_dev_shm_ends_the_start_of_an_engine_at_once_and_is_reported(monkeypatch):
    monkeypatch.setattr(slot, "ProcessPool", RefusingPool)

    with pytest.raises(EngineError, match=r"No space left on device\. Check that /dev/shm exists"):
        Engine("fake", device="cpu", replicas=1)
