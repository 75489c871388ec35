"""The transcribe stage as the queue sees it: audio from the handoff store in, the transcript into the job record."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent import futures
from contextlib import suppress
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import dramatiq
import redis
import structlog
from dramatiq.common import join_all
from dramatiq.middleware import Middleware

from actors import broker, process, tracking
from config import settings
from pipeline import dedupe as duplicates
from voicemill.admission import demand_schema
from voicemill.errors import ErrorCode, JobError
from voicemill.job import Job
from voicemill.store import connection

if TYPE_CHECKING:
    from pipeline.transcribe import Engine, Options, Transcript

BROKER = broker.for_process("transcribe")
MAX_REDECODES = 2  # of one message whose audio expires before its turn
LAST_WORDS = 1.0  # seconds that the engine, and then the messages' threads get to end after the drain
WATCH = 1.0  # seconds between looks at whether the engine is still alive, and a job still wanted

_engine: Engine | None = None
log = structlog.get_logger(__name__)


class _Lives(Middleware):
    """Ties the worker's life to its engine's: neither goes on without the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unfit = False

    def after_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        # The engine ends also where the worker is not allowed its own clean-up: after a second signal.
        Finalize(None, self._engine.stop, args=(0.0,), exitpriority=0)
        threading.Thread(target=self._watch, name="engine-watch", daemon=True).start()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """End the engine's processes, without which the worker would never exit.

        What still runs has had its time. It fails as `worker_stopped`, and the messages' threads get a moment to send
        it to the others.

        Raises:
            SystemExit: 1, where the engine had no slot left, so that a supervisor can act.
        """
        self._engine.stop(LAST_WORDS)
        join_all(worker.workers, int(LAST_WORDS * 1000))
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


def transcribe(job_id: str, *, schema: int = 1) -> None:
    """Transcribe one message. Its windows share the engine's batches with those of all other threads' messages."""
    demand_schema(schema)
    job = tracking.open_job(job_id)
    if job is None:
        return
    if job.transcript is None:
        if not store.jobs.begin(job_id, "transcribe", tracking.WORKER):
            return
        try:
            data = b"".join(store.audio.read(job_id))
        except JobError as error:
            if error.code != "handoff_expired" or job.redecodes >= MAX_REDECODES:
                raise
            if store.jobs.restart(job_id, "decode", expired=True):
                broker.enqueue_decode(BROKER, job_id, store.jobs.raw_source(job_id), job.options)
            return
        transcript = _transcript(job, data)
        if transcript is None or not store.jobs.finish(
            job_id, "transcribe", {"transcript": transcript.as_dict()}, last=not job.options["enrich"]
        ):
            tracking.drop_audio(job_id)
            return
        if job.audio is not None:
            duplicates.remember(job, job.audio["sha256"])
    store.audio.delete(job_id)
    if job.options["enrich"]:
        broker.enqueue_stage(BROKER, "enrich", job_id)


def _transcript(job: Job, data: bytes) -> Transcript | None:
    """Have a message transcribed; None: its job has ended meanwhile, and the windows that waited are dropped."""
    from pipeline.transcribe.audio import load  # noqa: PLC0415 - heavy: the worker's own, not the queue's

    assert _engine is not None, "the worker has an engine before it takes a message"  # noqa: S101
    audio = load(data)
    del data
    future = _engine.submit(audio, _options(job), partial(_tell, job.id))
    while not futures.wait([future], timeout=WATCH).done:
        if not _engine.alive:
            raise JobError(ErrorCode.GPU_UNFIT, "no slot of the engine is left")
        with suppress(redis.RedisError):  # then it is seen the next time
            if not store.jobs.wanted(job.id) and future.cancel():
                return None
    return future.result()


def _tell(job_id: str, done: int, total: int) -> None:
    """Tell those who listen how far a message is; while Redis is away nobody hears it, and the next tells as much."""
    try:
        store.jobs.progress(job_id, "transcribe", done, total)
    except redis.RedisError as error:
        if not connection.may_pass(error):
            raise


def _options(job: Job) -> Options:
    from pipeline.transcribe import Options  # noqa: PLC0415

    names = ("language", "task", "prompt", "hotwords", "word_timestamps")
    chosen: dict[str, Any] = {name: job.options[name] for name in names}
    limits = settings.get()
    return Options(**chosen, beam_size=limits.whisper_beam_size, max_duration=limits.max_duration)


_OPTIONS: dict[str, Any] = {"queue_name": "transcribe", "actor_name": "transcribe", "throws": broker.EXPECTED}

if not broker.in_worker():
    transcribe = dramatiq.actor(broker=BROKER, **_OPTIONS)(transcribe)
else:
    from actors import gate

    chosen = settings.get()
    transcribe, device, degraded = gate.declare(transcribe, BROKER, chosen.whisper_device, **_OPTIONS)

    from pipeline.transcribe import Engine
    from pipeline.transcribe.failures import EngineError

    try:
        _engine = Engine(
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
        process.give_up("transcribe", str(error), process.UNFIT)
    for slot in _engine.slots:
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
    BROKER.add_middleware(_Lives(_engine))
    BROKER.engine = _engine
    BROKER.device = ", ".join(sorted({slot.device_name for slot in _engine.slots}))
