"""Assembles the worker process of a stage: settings, store, broker with its middleware, and the stage's actor."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import dramatiq
from dramatiq.middleware import CurrentMessage

from actors import process
from actors.attempt import Attempt
from actors.backpressure import Backpressure
from actors.broker import EXPECTED, Broker
from actors.heartbeat import Heartbeat
from actors.maintenance import Maintenance
from actors.poison import PoisonMessages
from actors.retries import Retries
from actors.runner import Runner
from actors.selftest import SelfTest, Test
from actors.shutdown import Shutdown
from actors.tracking import Tracking
from config.settings import Settings
from pipeline.stage import Stage
from pipeline.sweeper import Sweeper
from voicemill.store import Store


@dataclass(frozen=True, slots=True)
class StageWorker:
    """The parts of a worker process that its stage needs."""

    stage: str
    settings: Settings
    store: Store
    broker: Broker
    self_test: SelfTest
    attempt: Attempt

    @property
    def options(self) -> dict[str, Any]:
        """The options of the stage's actor."""
        return {"queue_name": self.stage, "actor_name": self.stage, "throws": EXPECTED, "broker": self.broker}

    def test_machine(self, test: Test) -> None:
        """Have the worker's self-test include this one, which raises what is wrong with the machine."""
        earlier = self.self_test.test

        def both() -> None:
            if earlier is not None:
                earlier()
            test()

        self.self_test.test = both

    def declare(self, work: Stage) -> dramatiq.Actor[..., None]:
        """Declare the actor that runs the stage's work."""
        return dramatiq.actor(self.runner(work), **self.options)

    def runner(self, work: Stage) -> Callable[..., None]:
        """Return the function of the stage's actor."""
        run = Runner(self.stage, work, self.store, self.settings, self.attempt)

        def stage(*args: Any, **keywords: Any) -> None:
            run(*args, **keywords)

        return stage


def is_worker() -> bool:
    """Return whether this process is a worker of the `dramatiq` command, and not that command's master."""
    return multiprocessing.parent_process() is not None and "dramatiq.cli" in sys.modules


_started: list[StageWorker] = []  # by stage; `dramatiq actors -Q decode enrich` runs several in one process


def start(stage: str) -> StageWorker:
    """Make this process a worker of `stage`; its broker becomes Dramatiq's global one.

    A process that is a worker of another stage already becomes one of both, on the same broker.

    Raises:
        SystemExit: 2, a setting is wrong; 3, Redis refuses us, or was not there within `REDIS_START_TIMEOUT`.
    """
    _started.append(replace(_started[0], stage=stage) if _started else _assemble(stage))
    return _started[-1]


def _assemble(stage: str) -> StageWorker:
    settings, store = process.prepare(stage)
    self_test, backpressure, attempt = SelfTest(stage), Backpressure(store), Attempt()
    broker = Broker(store)
    middleware = [
        Shutdown(settings.shutdown_timeout, broker.stopping),
        CurrentMessage(),
        Tracking(),
        PoisonMessages(store),
        Retries(store, attempt, self_test),
        self_test,
        Heartbeat(settings.max_worker_kills),
        Maintenance(Sweeper(store, settings)),
    ]
    for each in middleware:
        broker.add_middleware(each)
    broker.may_take = lambda queue: self_test.may_take(queue) and backpressure.may_take(queue)
    broker.paused = lambda: self_test.reason
    dramatiq.set_broker(broker)
    if settings.metrics_port is not None:
        from actors import metrics  # noqa: PLC0415 - it may be missing

        metrics.install(broker, stage, settings.metrics_host, settings.metrics_port)
    return StageWorker(stage, settings, store, broker, self_test, attempt)
