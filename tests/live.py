"""The store of the Redis that the environment names at the moment, and its parts, for tests."""

from functools import wraps

from voicemill.config import ClientConfig
from voicemill.store import Store
from voicemill.store.audio import AudioStore
from voicemill.store.jobs import Jobs
from voicemill.store.outbox import Outbox
from voicemill.store.queue import Queues
from voicemill.store.spending import Spending
from voicemill.store.workers import Workers

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
    """A part of the present store; its methods may be looked up before the test has set the environment."""

    def __init__(self, name, kind):
        self._name, self._kind = name, kind

    def __getattr__(self, attribute):
        method = getattr(self._kind, attribute, None)
        if not callable(method):
            return getattr(self._present(), attribute)

        @wraps(method)
        def call(*args, **keywords):
            return getattr(self._present(), attribute)(*args, **keywords)

        return call

    def _present(self):
        return getattr(current(), self._name) if self._name else current()


store = _Part("", Store)
jobs, audio, queues = _Part("jobs", Jobs), _Part("audio", AudioStore), _Part("queues", Queues)
workers, outbox, spending = _Part("workers", Workers), _Part("outbox", Outbox), _Part("spending", Spending)
