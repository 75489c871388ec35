"""The store of the Redis that the environment names at the moment, and its parts, for tests."""

from voicemill.config import ClientConfig
from voicemill.store import Store

_stores: dict[ClientConfig, Store] = {}


def current() -> Store:
    config = ClientConfig.from_environment()
    if config not in _stores:
        _stores[config] = Store(config)
    return _stores[config]


def close() -> None:
    while _stores:
        _stores.popitem()[1].close()


class _Part:
    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(getattr(current(), self._name) if self._name else current(), attribute)


store = _Part("")
jobs, audio, queues = _Part("jobs"), _Part("audio"), _Part("queues")
workers, outbox, spending = _Part("workers"), _Part("outbox"), _Part("spending")
