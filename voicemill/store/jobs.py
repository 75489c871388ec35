"""What became of a message: the job record that every stage writes and the backend reads, and its events, live.

A job's id is the Dramatiq message id that `decode.send()` returns. Part of the backend's path: the standard library and
redis, nothing else. `RESULT_TTL` in the environment sets how long a record is kept after its last change (seconds).
"""

from __future__ import annotations

import json
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pipeline.metrics import hooks as measures
from voicemill import variables
from voicemill.errors import CODES, JobError
from voicemill.options import Options, is_text, shown
from voicemill.store import audio as handoff
from voicemill.store import connection

STAGES = ("decode", "transcribe", "enrich")
WORKING = {"decode": "decoding", "transcribe": "transcribing", "enrich": "enriching"}
FINISHED = {"decode": "decoded", "transcribe": "transcribed", "enrich": "done"}
PROGRESS = ("queued", "decoding", "decoded", "transcribing", "transcribed", "enriching")  # in their order
ENDED = ("done", "failed", "cancelled")
UNTIL = ("done", "transcribed")  # what can be waited for
TOLD = ("transcribed", *ENDED)  # what a job's receiver is told
DELETED = "deleted"  # all that is left of a job whose message may still lie in a queue

DEFAULT_RESULT_TTL = 7 * 86400  # seconds
BLOCK = 2000  # milliseconds that a reader waits in Redis for the next event; less than connection.SOCKET_TIMEOUT
TIMINGS = 1000  # of the last jobs that a stage finished
UNFINISHED_KEY = f"{connection.NAMESPACE}:jobs:unfinished"
ENDED_KEY = f"{connection.NAMESPACE}:jobs:ended"  # sorted set of the ids of the jobs that ended last
# Stream of the ids of jobs (`job`), the last 1,000 or so: one more time as each has its transcript, ends or is deleted.
ARRIVALS_KEY = f"{connection.NAMESPACE}:jobs:arrivals"
ARRIVALS = 1000
COUNTS_KEY = f"{connection.NAMESPACE}:jobs:counts"  # hash: how many jobs ended, ever, by status and by what failed
OUTBOX_KEY = f"{connection.NAMESPACE}:webhook"  # queue of the webhook workers; prefix of what pipeline/webhook keeps

_ADVANCE = (Path(__file__).parent / "advance.lua").read_text(encoding="utf-8")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:\[\]]*)(:[0-9]*)?")  # with or without a port
_scripts: dict[int, Any] = {}  # by client: a script remembers the client that it was registered with


class UnknownJob(LookupError):
    """No job has this id: it was never sent to this Redis, or its record has expired or was deleted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r} in this Redis: never sent, expired or deleted")


@dataclass(frozen=True, slots=True)
class Stage:
    """When a stage received, began and ended a job (Unix seconds), how often it began, and which process did it."""

    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    worker: str | None = None  # host:pid
    next_retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job record, as it was when it was read."""

    id: str
    status: str  # one of PROGRESS or ENDED
    created_at: float  # Unix seconds
    finished_at: float | None
    source: str  # credentials and query taken out
    options: dict[str, Any]
    stages: dict[str, Stage]
    metadata: Any = None  # the sender's own
    audio: dict[str, Any] | None = None
    transcript: dict[str, Any] | None = None
    enrichment: dict[str, Any] | None = None
    enrichment_skipped: str | None = None  # why no summary was asked for
    enrichment_error: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    redecodes: int = 0  # how often the audio expired before its turn and was decoded again
    webhook: dict[str, Any] | None = None  # what its receiver was told, and is still to be told

    @property
    def ended(self) -> bool:
        """Whether the job is done, failed or cancelled."""
        return self.status in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job: it entered a status, or a stage got on with it."""

    at: float  # Unix seconds
    status: str
    detail: dict[str, Any] = field(default_factory=dict)  # such as {"progress": {"done": 3, "total": 12}}


# What a backend calls


def get(job_id: str) -> Job:
    """Return the job's record.

    Raises:
        UnknownJob: there is no such job.
    """
    return parse(job_id, cast("dict[bytes, bytes]", connection.client().hgetall(record_key(job_id))))


def wait(job_id: str, timeout: float | None = None, until: str = "done") -> Job:
    """Wait for a job to end, or with `until="transcribed"` for its transcript, and return its record.

    Raises:
        UnknownJob: there is no such job.
        TimeoutError: it has not come so far within `timeout` seconds.
        ValueError: `until` is neither of the two.
    """
    client = connection.client()
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    last = b"0-0"
    while True:
        status = parse_status(client.hget(record_key(job_id), "status"))
        if status is None:
            raise UnknownJob(job_id)
        if reached(status, until):
            return get(job_id)
        left = (deadline - time.monotonic()) * 1000
        if left <= 0:
            raise TimeoutError(f"job {job_id} is still {status} after {timeout:g} s")
        entries = client.xread({events_key(job_id): last}, block=int(max(1.0, min(left, BLOCK))))
        if entries:
            last = cast("Any", entries)[0][1][-1][0]


def events(job_id: str, timeout: float | None = None) -> Iterator[Event]:
    """Yield all that happened to a job and go on, live, until it has ended.

    Raises:
        UnknownJob: there is no such job, or it was deleted meanwhile.
        TimeoutError: it has not ended within `timeout` seconds.
    """
    client = connection.client()
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    last = b"0-0"
    while True:
        block = min(BLOCK, max(1.0, (deadline - time.monotonic()) * 1000))
        entries = cast("Any", client.xread({events_key(job_id): last}, block=int(block)))
        for last, fields in entries[0][1] if entries else ():
            event = Event(**json.loads(fields[b"event"]))
            yield event
            if event.status in ENDED and not event.detail and not client.xread({events_key(job_id): last}, count=1):
                return  # and it was not tried again since
        if not entries:
            job = get(job_id)
            if job.ended:
                return
            if time.monotonic() >= deadline:
                raise TimeoutError(f"job {job_id} is still {job.status} after {timeout:g} s")


def cancel(job_id: str) -> bool:
    """End a job as `cancelled`; work that is running goes to its end and is thrown away. False: it had ended already.

    Raises:
        UnknownJob: there is no such job.
    """
    done = _advance(job_id, "cancelled", PROGRESS, tell=True)
    if done is None:
        raise UnknownJob(job_id)
    if done:
        _delete_audio(job_id)
    return done


def delete(job_id: str) -> None:
    """Remove every trace of a job: its record, results, events and audio; a message still queued is dropped unread.

    Its upload goes, too, from which another job of the same upload could not be decoded any more.

    Raises:
        UnknownJob: there is no such job.
    """
    client = connection.client()
    names = ("status", "webhook.receiver", "source")
    status, receiver, source = cast("list[bytes | None]", client.hmget(record_key(job_id), names))
    if parse_status(status) is None:
        raise UnknownJob(job_id)
    with client.pipeline(transaction=True) as pipe:
        if receiver is not None:
            pipe.zrem(outbox_key("jobs", _text(receiver)), job_id)
        pipe.delete(record_key(job_id), events_key(job_id), f"{connection.NAMESPACE}:enrich:job:{job_id}")
        pipe.hset(record_key(job_id), "status", DELETED)
        pipe.pexpire(record_key(job_id), ttl_ms())
        pipe.zrem(UNFINISHED_KEY, job_id)
        pipe.zrem(ENDED_KEY, job_id)
        pipe.xadd(ARRIVALS_KEY, {"job": job_id}, maxlen=ARRIVALS)
        pipe.execute()
    _delete_audio(job_id, _text(source))


def counts() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return how many jobs ended, ever: by status, and those that failed by stage and error code."""
    found = cast("dict[bytes, bytes]", connection.client().hgetall(COUNTS_KEY))
    named = {tuple(name.decode().split(":")): int(count) for name, count in found.items()}
    failures = {(name[1], name[2]): count for name, count in named.items() if len(name) == 3}
    return {status: named.get((status,), 0) for status in ENDED}, failures


# What the stages call: each returns False where the job has ended meanwhile, so that the caller drops its work


def create(job_id: str, source: str, options: Options, *, created_at: float | None = None) -> bool:
    """Write the record of a new job, `queued` for decode. False: it has one already.

    Its receiver is `callback_url` or the environment's `WEBHOOK_URL`, also where only the workers know of the latter.

    Raises:
        JobError: `invalid_options`: no job may have this id, or `WEBHOOK_URL` is not an address.
    """
    if not is_id(job_id):
        raise JobError("invalid_options", f"message_id is {shown(job_id)}: it takes text without a colon")
    now = created_at or time.time()
    fields = {"source": source, "options": json.dumps(asdict(options)), "created_at": now, "decode.queued_at": now}
    url = options.callback_url or os.environ.get("WEBHOOK_URL")
    callback = {"webhook.url": url, "webhook.receiver": receiver_of(url)} if url else {}
    created = _advance(job_id, "queued", ("new",), fields | callback) is True
    if callback and not created:
        with connection.client().pipeline(transaction=True) as pipe:
            for name, value in callback.items():
                pipe.hsetnx(record_key(job_id), name, value)
            pipe.execute()
    return created


def begin(job_id: str, stage: str, worker: str) -> bool:
    """Note that `worker` begins the job's work in `stage`."""
    fields = {f"{stage}.started_at": time.time(), f"{stage}.worker": worker, f"{stage}.next_retry_at": None}
    return bool(_advance(job_id, WORKING[stage], _until(WORKING[stage]), fields, count=f"{stage}.attempts"))


def finish(job_id: str, stage: str, results: dict[str, Any], *, last: bool = False) -> bool:
    """Store what a stage made; the job is then queued for the next stage, or done after the `last` one.

    `results` are fields of the record: `audio`, `transcript`, `enrichment`, `enrichment_error`, `enrichment_skipped`.
    """
    now = time.time()
    fields: dict[str, Any] = {name: json.dumps(value) for name, value in results.items()}
    fields |= {f"{stage}.finished_at": now}
    if last or stage == STAGES[-1]:
        stored = _advance(job_id, "done", PROGRESS, fields, tell=True)
    else:
        fields[f"{STAGES[STAGES.index(stage) + 1]}.queued_at"] = now
        stored = _advance(job_id, FINISHED[stage], _until(FINISHED[stage]), fields, tell=True)
    if stored:
        _note_timing(job_id, stage, now)
    return bool(stored)


def take_over(job_id: str, audio: dict[str, Any], transcript: dict[str, Any], *, last: bool) -> bool:
    """Store what another job's decode and transcribe made, in one step; the job is then queued for enrich, or done."""
    now = time.time()
    fields = {
        "audio": json.dumps(audio),
        "transcript": json.dumps(transcript),
        "enrich.queued_at": None if last else now,
    }
    fields |= {f"{stage}.finished_at": now for stage in STAGES[:2]}
    status = "done" if last else "transcribed"
    stored = _advance(job_id, status, _until("transcribed"), fields, tell=True)
    if stored:
        _note_timing(job_id, "decode", now)
    return bool(stored)


def _note_timing(job_id: str, stage: str, finished_at: float) -> None:
    """Keep how long a stage took, among the last ones: what `status` computes its percentiles of."""
    client = connection.client()
    times = client.hmget(record_key(job_id), f"{stage}.queued_at", f"{stage}.started_at")
    if None not in times:
        queued_at, started_at = (float(cast("bytes", at)) for at in times)
        wait, work = started_at - queued_at, finished_at - started_at
        measures.note("stage_wait_seconds", wait, stage=stage)
        measures.note("stage_work_seconds", work, stage=stage)
        timing = [finished_at, wait, work]
        with client.pipeline(transaction=False) as pipe:
            pipe.lpush(timings_key(stage), json.dumps(timing))
            pipe.ltrim(timings_key(stage), 0, TIMINGS - 1)
            pipe.execute()


def progress(job_id: str, stage: str, done: int, total: int) -> None:
    """Tell those who listen how many of a stage's pieces are done."""
    detail = {"progress": {"done": done, "total": total}}
    _advance(job_id, None, (WORKING[stage],), detail=detail, status_of_event=WORKING[stage])


def retrying(job_id: str, stage: str, error: JobError, at: float) -> bool:
    """Note that a stage failed for now and is tried again `at` Unix seconds; webhooks keep their own account."""
    if stage not in STAGES:
        return False
    detail = {"retry": {"code": error.code, "message": error.message, "at": at}}
    fields = {f"{stage}.next_retry_at": at}
    return bool(_advance(job_id, None, PROGRESS, fields, detail=detail, status_of_event=WORKING[stage]))


def fail(job_id: str, stage: str, error: JobError) -> bool:
    """End a job as `failed`. False: it has ended already, or left this stage behind, where only a late twin is at work.

    A webhook that cannot be delivered is no such failure, and leaves the job as it is.
    """
    if stage not in STAGES:
        return False
    fields = {"error": json.dumps(describe(error) | {"stage": stage})}
    why = f"failed:{stage}:{error.code}"
    return bool(_advance(job_id, "failed", ("new", *_until(WORKING[stage])), fields, why=why, tell=True))


def restart(job_id: str, stage: str, *, expired: bool = False) -> bool:
    """Send a job back to the queue of `stage`: it failed and is tried again, or its audio has `expired`.

    False: it has ended meanwhile, or has its transcript and needs no audio.
    """
    status = PROGRESS[2 * STAGES.index(stage)]
    fields: dict[str, Any] = {"error": None, f"{stage}.queued_at": time.time()}
    for later in STAGES[STAGES.index(stage) :]:
        fields |= {f"{later}.{name}": None for name in ("started_at", "finished_at", "next_retry_at", "attempts")}
    if expired:
        return bool(_advance(job_id, status, _until("transcribing"), fields, count="redecodes"))
    return bool(_advance(job_id, status, ("failed", *PROGRESS), fields))


def rewrite(job_id: str, enrichment: dict[str, Any]) -> bool:
    """Put another summary in the place of a done job's. False: the job is not done."""
    fields = {"enrichment": json.dumps(enrichment), "enrichment_error": None, "enrichment_skipped": None}
    return bool(_advance(job_id, None, ("done",), fields, detail={"enrichment": "again"}, status_of_event="done"))


def wanted(job_id: str) -> bool:
    """Tell whether a job still exists and has not ended."""
    status = parse_status(connection.client().hget(record_key(job_id), "status"))
    return status is not None and status not in ENDED


def raw_source(job_id: str) -> str:
    """Return the source as it was sent, secrets included: for the decode stage alone.

    Raises:
        UnknownJob: there is no such job.
    """
    source = connection.client().hget(record_key(job_id), "source")
    if source is None:
        raise UnknownJob(job_id)
    return _text(source)


# How a record lies in Redis


def is_id(value: Any) -> bool:
    """Tell whether a job may have this id: text without a colon, behind which other keys of another job's may begin."""
    return is_text(value) and ":" not in value


def record_key(job_id: str) -> str:
    """Return the key of the job's record, a hash.

    Raises:
        UnknownJob: no job may have this id; its record would be another key of another job's.
    """
    if not is_id(job_id):
        raise UnknownJob(job_id)
    return f"{connection.NAMESPACE}:job:{job_id}"


def events_key(job_id: str) -> str:
    """Return the key of the job's events, a stream."""
    return f"{record_key(job_id)}:events"


def outbox_key(kind: str, receiver: str) -> str:
    """Return the key of what the outbox keeps for a receiver: `jobs`, `busy` or `receiver` (pipeline/webhook)."""
    return f"{OUTBOX_KEY}:{kind}:{receiver}"


def timings_key(stage: str) -> str:
    """Return the key of a list: when a stage finished its last jobs (Unix seconds), how long each waited and took."""
    return f"{connection.NAMESPACE}:timings:{stage}"


def parse(job_id: str, fields: dict[bytes, bytes]) -> Job:
    """Read a record from its hash.

    Raises:
        UnknownJob: the hash is empty, or what `delete` left.
    """
    values = {name.decode(): value.decode() for name, value in fields.items()}
    if parse_status(fields.get(b"status")) is None:
        raise UnknownJob(job_id)

    def number(name: str) -> float | None:
        return float(values[name]) if name in values else None

    def document(name: str) -> Any:
        return json.loads(values[name]) if name in values else None

    stages = {
        stage: Stage(
            queued_at=number(f"{stage}.queued_at"),
            started_at=number(f"{stage}.started_at"),
            finished_at=number(f"{stage}.finished_at"),
            attempts=int(values.get(f"{stage}.attempts", 0)),
            worker=values.get(f"{stage}.worker"),
            next_retry_at=number(f"{stage}.next_retry_at"),
        )
        for stage in STAGES
    }
    options = document("options") or {}
    if options.get("callback_url"):
        options["callback_url"] = masked(options["callback_url"])
    return Job(
        id=job_id,
        status=values["status"],
        created_at=number("created_at") or 0.0,
        finished_at=number("finished_at"),
        source=masked(values.get("source", "")),
        metadata=options.pop("metadata", None),
        options=options,
        stages=stages,
        audio=document("audio"),
        transcript=document("transcript"),
        enrichment=document("enrichment"),
        enrichment_skipped=document("enrichment_skipped"),
        enrichment_error=document("enrichment_error"),
        error=document("error"),
        redecodes=int(values.get("redecodes", 0)),
        webhook=_webhook(values) if "webhook.receiver" in values else None,
    )


def _webhook(values: dict[str, str]) -> dict[str, Any]:
    """Return how far a job's deliveries are: times in Unix seconds, events named like the status they tell of."""
    times = {name: values.get(f"webhook.{name}") for name in ("last_at", "next_at", "delivered_at")}
    documents = {name: values.get(f"webhook.{name}") for name in ("last_status", "last_error", "stopped")}
    return {
        "receiver": values["webhook.receiver"],
        "pending": [event.split(":")[1] for event in values.get("webhook.pending", "").split()],
        "attempts": int(values.get("webhook.attempts", 0)),  # at the first pending event
        "delivered": values.get("webhook.delivered"),  # the last event that was
        **{name: None if value is None else float(value) for name, value in times.items()},
        **{name: None if value is None else json.loads(value) for name, value in documents.items()},
    }


def parse_status(value: bytes | str | None) -> str | None:
    """Return a status read from Redis; None for a job that does not exist any more."""
    status = _text(value)
    return status if status not in ("", DELETED) else None


def reached(status: str, until: str) -> bool:
    """Tell whether a job in `status` has come as far as `until`: "transcribed", or "done" for any end.

    Raises:
        ValueError: `until` is neither of the two.
    """
    if until not in UNTIL:
        raise ValueError(f"until is {until!r}: it takes {' or '.join(map(repr, UNTIL))}")
    return status in ENDED or (until == "transcribed" and status in ("transcribed", "enriching"))


def receiver_of(url: str) -> str:
    """Return the server that an address is on, as `scheme://host:port`: deliveries to it share its good and bad days.

    Raises:
        JobError: `invalid_options`: it is no web address.
    """
    try:
        address = urlsplit(url)
        port = address.port or {"http": 80, "https": 443}[address.scheme]
    except (ValueError, KeyError):
        raise JobError("invalid_options", "the address of a webhook takes an http(s) URL") from None
    if not address.hostname:
        raise JobError("invalid_options", "the address of a webhook names no host")
    host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
    return f"{address.scheme}://{host}:{port}"


def delivery_message(job_id: str) -> tuple[str, str]:
    """Return a message to the webhook workers, as Dramatiq writes it, and Redis's id of it."""
    redis_id = str(uuid.uuid4())
    message = {
        "queue_name": "webhook",
        "actor_name": "webhook",
        "args": [job_id],
        "kwargs": {"schema": 1},
        "options": {"redis_message_id": redis_id},
        "message_id": job_id,
        "message_timestamp": int(time.time() * 1000),
    }
    return json.dumps(message), redis_id


def masked(source: str) -> str:
    """Return a source fit to be shown: no user, password, query or fragment, and no bytes of a data: address."""
    scheme, colon, rest = source.partition(":")
    if not colon or "/" in scheme:
        return source  # a path
    if scheme.lower() == "data":
        return "data:…"
    place = re.split("[?#]", rest, maxsplit=1)[0]
    authority, slash, path = place.removeprefix("//").partition("/")
    host = authority.rpartition("@")[2]
    if place.startswith("//") and _HOST.fullmatch(host):
        return f"{scheme}://{host}{slash}{path}"
    # No address as it should be, or one in another: whatever stands before an @ may be a password.
    return f"{scheme}:{re.split('[?#]', rest.rpartition('@')[2], maxsplit=1)[0]}"


def describe(error: JobError) -> dict[str, Any]:
    """Return an error as the record keeps it."""
    code = CODES[error.code]
    return {"code": error.code, "message": error.message, "retryable": code.retryable, "remedy": code.remedy}


def _advance(  # noqa: PLR0913 - each is an argument of the script
    job_id: str,
    status: str | None,
    allowed: tuple[str, ...],
    fields: dict[str, Any] | None = None,
    *,
    count: str = "",
    detail: dict[str, Any] | None = None,
    status_of_event: str | None = None,
    why: str = "",
    tell: bool = False,
) -> bool | None:
    """Run advance.lua: True done, False the job's status forbids it, None there is no such job.

    `why` is what a failure is counted under. With `tell` the job's receiver, where it has one, is to hear of the status
    that it enters.
    """
    now = time.time()
    event = {"at": now, "status": status or status_of_event, "detail": detail or {}}
    pairs = [text for name, value in (fields or {}).items() for text in (name, "" if value is None else str(value))]
    answer = _script()(
        keys=[
            record_key(job_id),
            events_key(job_id),
            UNFINISHED_KEY,
            OUTBOX_KEY,
            ENDED_KEY,
            COUNTS_KEY,
            handoff.SPENT_KEY,
            ARRIVALS_KEY,
        ],
        args=[
            *(job_id, now, ttl_ms(), status or "", f",{','.join(allowed)},", count, json.dumps(event)),
            *(delivery_message(job_id) if tell and status in TOLD else ("", "")),
            *(why, *pairs),
        ],
    )
    return {1: True, 0: False, -1: None}[int(answer)]


def _script() -> Callable[..., Any]:
    client = connection.client()
    if id(client) not in _scripts:
        _scripts.clear()
        _scripts[id(client)] = client.register_script(_ADVANCE)
    return cast("Callable[..., Any]", _scripts[id(client)])


def _until(status: str) -> tuple[str, ...]:
    """Return the statuses up to this one: a late twin of a message never takes a job back."""
    return PROGRESS[: PROGRESS.index(status) + 1]


def _delete_audio(job_id: str, source: str = "") -> None:
    handoff.delete(job_id)
    if source.startswith(handoff.UPLOAD):
        handoff.delete_upload(source)


def ttl_ms() -> int:
    """Return how long a record is kept after its last change (milliseconds)."""
    return int(variables.number("RESULT_TTL", DEFAULT_RESULT_TTL) * 1000)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
