"""The worker of the transcribe stage: `dramatiq actors.transcribe`.

The preflight examines the machine before the actor is declared, and may refuse it. Then the engine loads its model in
each slot and passes a canary before the first message is taken.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import dramatiq
import structlog
from dramatiq.common import join_all
from dramatiq.middleware import Middleware

from actors import process, worker
from voicemill.errors import ErrorCode, JobError

if TYPE_CHECKING:
    from pipeline.transcribe import Engine

LAST_MOMENT = 1.0  # seconds that the engine, and then the messages' threads get to end after the drain
WATCH = 1.0  # seconds between checks whether the engine is still alive

log = structlog.get_logger(__name__)


class EngineLife(Middleware):
    """Ties the worker's life to its engine's: neither goes on without the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unfit = False

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        """Watch the engine."""
        # The engine ends also if the worker is not allowed its own clean-up: after a second signal.
        Finalize(None, self._engine.stop, args=(0.0,), exitpriority=0)
        threading.Thread(target=self._watch, name="engine-watch", daemon=True).start()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """End the engine's processes, without which the worker would never exit.

        What still runs has had its time. It fails as `worker_stopped`, and the messages' threads get a moment to send
        it to other workers.

        Raises:
            SystemExit: 1, if the engine had no slot left, so that a supervisor can act.
        """
        self._engine.stop(LAST_MOMENT)
        join_all(worker.workers, int(LAST_MOMENT * 1000))
        if self._unfit:
            raise SystemExit(process.UNFIT)

    def _watch(self) -> None:
        while self._engine.alive:
            time.sleep(WATCH)
        if process.draining.is_set():  # it has no slot left because it was stopped
            return
        self._unfit = True
        log.critical("No slot of the engine is left: the worker ends")
        os.kill(os.getpid(), signal.SIGTERM)


def start_engine(parts: worker.StageWorker, device: str, degraded: str | None) -> Engine:
    """Start the engine, log what was verified, and tie the worker's life to it.

    Args:
        parts: of the worker.
        device: `cuda` or `cpu`.
        degraded: why it is the CPU although a GPU was welcome; None: it is not so.

    Raises:
        SystemExit: 1, the engine cannot start.
    """
    from pipeline.transcribe import Engine, EngineError  # noqa: PLC0415 - heavy

    chosen, broker = parts.settings, parts.broker
    try:
        engine = Engine(
            chosen.whisper_model,
            device=device,
            degraded=degraded,
            compute_type=chosen.whisper_compute_type if degraded is None else "int8",  # the wish was meant for a GPU
            model_dir=chosen.whisper_model_dir,
            beam_size=chosen.whisper_beam_size,
            replicas=chosen.whisper_cpu_replicas,
            gpus=chosen.whisper_gpus,
            timeout=chosen.transcribe_timeout,
            encoder_window=chosen.encoder_window,
        )
    except EngineError as error:
        process.give_up(parts.stage, str(error), process.UNFIT)
    for slot in engine.slots:
        where = {"device": slot.device, "device_name": slot.device_name}
        if slot.device == "cuda":
            log.info("CUDA libraries verified", files=list(slot.libraries) or "found by the loader", **where)
        log.info(
            "Model loaded",
            model=slot.model,
            compute_type=slot.compute_type,
            path=slot.path,
            seconds=slot.load_seconds,
            **where,
        )
        log.info("Canary passed", seconds=slot.canary_seconds, **where)
    broker.add_middleware(EngineLife(engine))
    broker.engine = engine
    broker.device = ", ".join(sorted({slot.device_name for slot in engine.slots}))
    parts.test_machine(lambda: _demand_slots(engine))
    return engine


def _demand_slots(engine: Engine) -> None:
    """Raise `gpu_unfit` if no slot of the engine is left."""
    if not engine.alive:
        raise JobError(ErrorCode.GPU_UNFIT, "no slot of the engine is left")


if worker.is_worker():
    from actors import preflight
    from actors.gpus import Gpus
    from pipeline.transcribe.stage import Transcribing

    def transcribe(*args: Any, **keywords: Any) -> None:
        """Run the stage; no message is taken before the runner exists."""
        run(*args, **keywords)

    WORKER = worker.start("transcribe")
    WORKER.broker.gpus = Gpus().read
    WORKER.broker.gpus()  # so that the first heartbeat, after the model has loaded, knows them
    actor, device, degraded = preflight.declare(transcribe, device=WORKER.settings.whisper_device, **WORKER.options)
    run = WORKER.runner(Transcribing(start_engine(WORKER, device, degraded)))
