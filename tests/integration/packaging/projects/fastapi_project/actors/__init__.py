"""This project's own Dramatiq actors."""

import dramatiq
from dramatiq.brokers.stub import StubBroker

dramatiq.set_broker(StubBroker())


@dramatiq.actor
def greet(name):
    return f"Hello, {name}."
