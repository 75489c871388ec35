"""The records of jobs: what stages write and clients read, and the events of each job, live.

A job's id is the Dramatiq message id that `decode.send()` returns. Every change of a record goes through
lua/transition.lua.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from voicemill import lifecycle
from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Audio, Deliveries, Enrichment, Event, Failure, Job, StageTimes, stored_options
from voicemill.lifecycle import ENDED, PROGRESS, STAGES, STATUSES, STEPS, WORKING, Lane, Status
from voicemill.options import Options, as_dict, shown
from voicemill.store import keys, scripts
from voicemill.store.queue import Letter, delivery, letter
from voicemill.transcript import Transcript

if TYPE_CHECKING:
    from voicemill.store import Store

DELETED = "deleted"  # status of the tombstone of a job whose message may still be in a queue
TOMBSTONE_TTL = 7 * 86400 + 3600  # seconds: longer than Dramatiq keeps delayed messages and dead letters
BLOCK = 2000  # milliseconds that a reader waits in Redis for the next event; less than connection.SOCKET_TIMEOUT
TIMINGS = 1000  # of the last jobs that a stage finished
PAGE = 500  # jobs that are listed or trimmed in one round trip
# Fields of a record that a list of jobs shows.
OUTLINE = tuple("status created_at finished_at source options audio enrichment enrichment_error error".split())

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:\[\]]*)(:[0-9]*)?")  # with or without a port


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a job waited for a stage and how long the stage worked on it (seconds)."""

    wait: float
    work: float


class Jobs:
    """The records of the jobs in one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # What a client calls

    def get(self, job_id: str) -> Job:
        """Return a job's record.

        Raises:
            UnknownJob: there is no such job.
        """
        return parse(job_id, cast("dict[bytes, bytes]", self._store.redis.hgetall(keys.record(job_id))))

    def page(
        self, status: str | None = None, *, limit: int = 50, before: str | None = None, owner: str | None = None
    ) -> list[Job]:
        """Return jobs, the newest first.

        Args:
            status: of the jobs; None: any.
            limit: how many at most.
            before: id of a job: only jobs that were created before it. The last id of a page leads to the next page.
            owner: tenant whose jobs are listed; None: every tenant's.

        Raises:
            ValueError: there is no such status, or `limit` is less than 1.
            UnknownJob: the job `before` does not exist any more.
        """
        if status is not None and status not in STATUSES:
            raise ValueError(f"status is {status!r}; use one of {', '.join(STATUSES)}")
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be at least 1")
        found: list[Job] = []
        ids = self._newest_first(keys.index(status, owner), before)
        while len(found) < limit and (some := list(islice(ids, limit - len(found)))):
            found += [job for job in self._read(some) if status is None or job.status == status]
        return found

    def ids(self, limit: int, status: str | None = None) -> list[str]:
        """Return the ids of the newest jobs; the records of some may have expired."""
        found = cast("list[bytes]", self._store.redis.zrevrange(keys.index(status), 0, limit - 1))
        return [name.decode() for name in found]

    def outlines(self, ids: Sequence[str]) -> list[Job | None]:
        """Return what a list shows of these jobs, in one round trip; None: there is no such job.

        Of the record only the fields of OUTLINE are read, so transcript, stages and webhook are missing.
        """
        with self._store.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(keys.record(job_id), OUTLINE)
            found = cast("list[list[bytes | None]]", pipe.execute())
        return [_outline(job_id, values) for job_id, values in zip(ids, found, strict=True)]

    def openings(self, ids: Sequence[str], length: int, *, largest: int) -> list[str]:
        """Return how the transcripts of these jobs begin, in two round trips; empty: there is none, or it is too large.

        Args:
            ids: of the jobs.
            length: characters.
            largest: bytes of a stored transcript above which it is not read for its first characters.
        """
        with self._store.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hstrlen(keys.record(job_id), "transcript")
            sizes = cast("list[int]", pipe.execute())
            wanted = [job_id for job_id, size in zip(ids, sizes, strict=True) if 0 < size <= largest]
            for job_id in wanted:
                pipe.hget(keys.record(job_id), "transcript")
            found = dict(zip(wanted, cast("list[bytes | None]", pipe.execute()), strict=True))
        return [json.loads(text).get("text", "")[:length] if (text := found.get(job_id)) else "" for job_id in ids]

    def wait(self, job_id: str, timeout: float | None = None, until: str = Status.DONE) -> Job:
        """Wait for a job to end, or with `until="transcribed"` for its transcript, and return its record.

        Args:
            job_id: the job.
            timeout: seconds; None: no limit.
            until: "done" or "transcribed".

        Raises:
            UnknownJob: there is no such job.
            TimeoutError: it has not come so far within `timeout` seconds.
            ValueError: `until` is neither of the two.
        """
        client = self._store.redis
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        last = b"0-0"
        while True:
            status = self.status(job_id)
            if lifecycle.reached(status, until):
                return self.get(job_id)
            left = (deadline - time.monotonic()) * 1000
            if left <= 0:
                raise TimeoutError(f"job {job_id} is still {status} after {timeout:g} s")
            entries = client.xread({keys.events(job_id): last}, block=int(max(1.0, min(left, BLOCK))))
            if entries:
                last = cast("Any", entries)[0][1][-1][0]

    def events(self, job_id: str, timeout: float | None = None) -> Iterator[Event]:
        """Yield all events of a job, past and live, until it has ended.

        Raises:
            UnknownJob: there is no such job, or it was deleted meanwhile.
            TimeoutError: it has not ended within `timeout` seconds.
        """
        client = self._store.redis
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        self.status(job_id)  # an unknown job is reported at once, not after the first wait
        last = b"0-0"
        while True:
            block = min(BLOCK, max(1.0, (deadline - time.monotonic()) * 1000))
            entries = cast("Any", client.xread({keys.events(job_id): last}, block=int(block)))
            for last, fields in entries[0][1] if entries else ():
                event = Event.from_json(fields[b"event"])
                yield event
                if is_end(event) and not client.xread({keys.events(job_id): last}, count=1):
                    return  # and it was not retried since
            if not entries:
                job = self.get(job_id)
                if job.ended:
                    return
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"job {job_id} is still {job.status} after {timeout:g} s")

    def cancel(self, job_id: str) -> bool:
        """End a job as `cancelled`; the result of running work is discarded. Return False if it had ended already.

        Raises:
            UnknownJob: there is no such job.
        """
        done = self._transition(job_id, Status.CANCELLED, PROGRESS)
        if done is None:
            raise UnknownJob(job_id)
        if done:
            self._store.audio.delete(job_id)
        return bool(done)

    def delete(self, job_id: str) -> None:
        """Remove every trace of a job: record, results, events, audio and messages.

        Its upload is deleted too, so another job of the same upload can no longer be decoded.

        Raises:
            UnknownJob: there is no such job.
        """
        touched = [
            *(keys.record(job_id), keys.events(job_id), keys.spending(job_id), keys.UNFINISHED, keys.EXPIRING),
            *(keys.ARRIVALS, keys.INDEX, keys.OUTBOX),
        ]
        arguments = (job_id, TOMBSTONE_TTL * 1000, DELETED, "any", *STATUSES)
        source = scripts.named("delete").run(self._store.redis, touched, *arguments)
        if source is None:
            raise UnknownJob(job_id)
        self._store.audio.delete(job_id)
        self._store.queues.forget(job_id)
        if _text(source).startswith(UPLOAD):
            self._store.audio.delete_upload(_text(source))

    def counts(self) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
        """Return how many jobs ended, ever: by status, and those that failed by stage and error code."""
        found = cast("dict[bytes, bytes]", self._store.redis.hgetall(keys.COUNTS))
        named = {tuple(name.decode().split(":")): int(count) for name, count in found.items()}
        failures = {(name[1], name[2]): count for name, count in named.items() if len(name) == 3}
        return {status: named.get((status,), 0) for status in ENDED}, failures

    def unfinished(self) -> int:
        """Return how many jobs have not ended."""
        return int(self._store.redis.zcard(keys.UNFINISHED))

    # What senders and stages call. What returns a bool returns False if the job has ended meanwhile, or if the attempt
    # is stale: then the caller discards its work.

    def create(
        self,
        job_id: str,
        source: str,
        options: Options,
        *,
        created_at: float | None = None,
        owner: str | None = None,
        message: Letter | None = None,
    ) -> Job:
        """Write the record of a new job, `queued` for the first stage, unless it has one already; return it as written.

        Its receiver is `callback_url` or the configured `webhook_url`, also where only the workers know of the latter.

        Args:
            job_id: the job's id.
            source: where its audio is.
            options: of the job.
            created_at: Unix seconds; None: now.
            owner: tenant that the job belongs to.
            message: for the queue of the first stage, which is written with the record.

        Raises:
            JobError: `invalid_options`: no job may have this id, or `webhook_url` is not a URL.
        """
        if not keys.is_id(job_id):
            raise JobError(ErrorCode.INVALID_OPTIONS, f"message_id is {shown(job_id)}; it must be text without a colon")
        now = created_at or time.time()
        fields: dict[str, Any] = {
            "source": source,
            "options": json.dumps(as_dict(options)),
            "created_at": now,
            "owner": owner,
            "lane": Lane.INTERACTIVE,
            f"{STAGES[0]}.queued_at": now,
        }
        url = options.callback_url or self._store.config.webhook_url
        callback = {"webhook.url": url, "webhook.receiver": receiver_of(url)} if url else {}
        fields |= callback
        created = self._transition(job_id, Status.QUEUED, ("new",), fields, message=message)
        if callback and not created:
            with self._store.redis.pipeline(transaction=True) as pipe:
                for name, value in callback.items():
                    pipe.hsetnx(keys.record(job_id), name, value)
                pipe.execute()
        written = {"status": Status.QUEUED, **fields}
        return parse(
            job_id, {name.encode(): str(value).encode() for name, value in written.items() if value is not None}
        )

    def begin(self, job_id: str, stage: str, worker: str) -> int | None:
        """Note that `worker` begins the job's work in `stage`.

        Returns:
            The token of this attempt, which `finish` and `fail` take; every later attempt makes it stale. None: the job
            has ended or left this stage behind.
        """
        fields = {f"{stage}.started_at": time.time(), f"{stage}.worker": worker, f"{stage}.next_retry_at": None}
        working = WORKING[stage]
        return self._transition(job_id, working, lifecycle.up_to(working), fields, begins=stage) or None

    def finish(
        self,
        job_id: str,
        stage: str,
        results: Mapping[str, Any],
        *,
        token: int | None = None,
        through: str | None = None,
        following: str | None = "",
    ) -> bool:
        """Store what a stage made, and queue the job for the next stage in the same step, or end it.

        Args:
            job_id: the job.
            stage: the stage that is finished.
            results: fields of the record as JSON documents: `audio`, `transcript`, `enrichment`, `enrichment_error`,
                `enrichment_skipped`.
            token: of the attempt; None: any may finish.
            through: a later stage whose results are among them, so that it is finished, too.
            following: the next stage; None: the job is done; by default what the job's options say.
        """
        done = STAGES[STAGES.index(stage) : STAGES.index(through or stage) + 1]
        if following == "":
            following = lifecycle.following(done[-1], self.options(job_id))
        now = time.time()
        fields: dict[str, Any] = {name: json.dumps(value) for name, value in results.items()}
        fields |= {f"{each}.finished_at": now for each in done}
        status, allowed, message = Status.DONE, PROGRESS, None
        if following:
            status = STEPS[done[-1]].finished
            allowed = lifecycle.up_to(status)
            fields[f"{following}.queued_at"] = now
            message = letter(following, job_id)
        answer = self._transition(job_id, status, allowed, fields, token=token, finishes=stage, message=message)
        return bool(answer)

    def progress(self, job_id: str, stage: str, done: int, total: int) -> None:
        """Publish how many of a stage's pieces are done."""
        detail = {"progress": {"done": done, "total": total}}
        self._transition(job_id, None, (WORKING[stage],), event=(WORKING[stage], detail))

    def retrying(self, job_id: str, stage: str, error: JobError, at: float) -> bool:
        """Note that a stage failed and is retried at `at` (Unix seconds); webhooks keep their own account."""
        if stage not in STAGES:
            return False
        detail = {"retry": {"code": error.code, "message": error.message, "at": at}}
        fields = {f"{stage}.next_retry_at": at}
        return bool(self._transition(job_id, None, PROGRESS, fields, event=(WORKING[stage], detail)))

    def fail(self, job_id: str, stage: str, error: JobError, *, token: int | None = None) -> bool:
        """End a job as `failed`. Return False if it has ended, or left this stage behind, or the attempt is stale.

        A webhook that cannot be delivered is no such failure, and leaves the job as it is.
        """
        if stage not in STAGES:
            return False
        fields = {"error": json.dumps(Failure.of(error, stage=stage).as_dict())}
        allowed = lifecycle.up_to(WORKING[stage])
        failure = f"failed:{stage}:{error.code}"
        return bool(self._transition(job_id, Status.FAILED, allowed, fields, failure=failure, token=token))

    def restart(self, job_id: str, stage: str, *, expired: bool = False) -> bool:
        """Send a job back to the queue of `stage`: it failed and is retried, or its audio has `expired`.

        Return False if it has ended meanwhile, or has its transcript and needs no audio.
        """
        fields: dict[str, Any] = {"error": None, f"{stage}.queued_at": time.time()}
        for later in STAGES[STAGES.index(stage) :]:
            fields |= {f"{later}.{name}": None for name in ("started_at", "finished_at", "next_retry_at", "attempts")}
        allowed = lifecycle.up_to(Status.TRANSCRIBING) if expired else (Status.FAILED, *PROGRESS)
        counts = ["token", "redecodes"] if expired else ["token"]
        message = letter(stage, job_id)
        waiting = STEPS[stage].waiting
        return bool(self._transition(job_id, waiting, allowed, fields, counts=counts, message=message))

    def rewrite(self, job_id: str, enrichment: Enrichment) -> bool:
        """Replace the summary of a job that is done. Return False if it is not done."""
        fields = {
            "enrichment": json.dumps(enrichment.as_dict()),
            "enrichment_error": None,
            "enrichment_skipped": None,
        }
        event = (Status.DONE, {"enrichment": "again"})
        return bool(self._transition(job_id, None, (Status.DONE,), fields, event=event))

    def options(self, job_id: str) -> Options:
        """Return a job's options; the default ones if there is no such job."""
        text = self._store.redis.hget(keys.record(job_id), "options")
        return stored_options(json.loads(text)) if text else Options()

    def status(self, job_id: str) -> str:
        """Return a job's status.

        Raises:
            UnknownJob: there is no such job.
        """
        status = parse_status(self._store.redis.hget(keys.record(job_id), "status"))
        if status is None:
            raise UnknownJob(job_id)
        return status

    def wanted(self, job_id: str) -> bool:
        """Return whether a job still exists and has not ended."""
        status = parse_status(self._store.redis.hget(keys.record(job_id), "status"))
        return status is not None and status not in ENDED

    def raw_source(self, job_id: str) -> str:
        """Return the source as it was sent, secrets included: for the decode stage alone.

        Raises:
            UnknownJob: there is no such job.
        """
        source = self._store.redis.hget(keys.record(job_id), "source")
        if source is None:
            raise UnknownJob(job_id)
        return _text(source)

    def timing(self, job_id: str, stage: str) -> Timing | None:
        """Keep how long a finished stage took, among its last jobs, and return it; None: the job is gone."""
        client = self._store.redis
        names = (f"{stage}.queued_at", f"{stage}.started_at", f"{stage}.finished_at")
        times = cast("list[bytes | None]", client.hmget(keys.record(job_id), names))
        if None in times:
            return None
        queued_at, started_at, finished_at = (float(cast("bytes", at)) for at in times)
        timing = Timing(started_at - queued_at, finished_at - started_at)
        with client.pipeline(transaction=False) as pipe:
            pipe.lpush(keys.timings(stage), json.dumps([finished_at, timing.wait, timing.work]))
            pipe.ltrim(keys.timings(stage), 0, TIMINGS - 1)
            pipe.execute()
        return timing

    def timings(self, *stages: str) -> list[list[tuple[float, float, float]]]:
        """Return for each stage when it finished its last jobs (Unix seconds), and how long each waited and took."""
        with self._store.redis.pipeline(transaction=False) as pipe:
            for stage in stages:
                pipe.lrange(keys.timings(stage), 0, -1)
            found = cast("list[list[bytes]]", pipe.execute())
        return [[cast("tuple[float, float, float]", tuple(json.loads(row))) for row in rows] for rows in found]

    def trim(self) -> int:
        """Remove from the indexes the jobs whose records have expired, and return how many there were."""
        client, removed = self._store.redis, 0
        while True:
            gone = cast("list[bytes]", client.zrangebyscore(keys.EXPIRING, 0, time.time(), start=0, num=PAGE))
            if not gone:
                return removed
            with client.pipeline(transaction=False) as pipe:
                for member in gone:
                    job_id, _, owner = member.decode().partition(" ")
                    for status in (None, *ENDED):
                        for scope in {None, owner or None}:
                            pipe.zrem(keys.index(status, scope), job_id)
                pipe.zrem(keys.EXPIRING, *gone)
                pipe.execute()
            removed += len(gone)

    def _read(self, ids: Sequence[str]) -> list[Job]:
        """Return the jobs of these ids; those that expired meanwhile are left out."""
        with self._store.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.record(job_id))
            records = cast("list[dict[bytes, bytes]]", pipe.execute())
        found = []
        for job_id, fields in zip(ids, records, strict=True):
            with suppress(UnknownJob):  # the sweeper trims it from the index
                found.append(parse(job_id, fields))
        return found

    def _newest_first(self, index: str, before: str | None) -> Iterator[str]:
        client = self._store.redis
        highest: float | str = "+inf"
        if before is not None:
            created = client.hget(keys.record(before), "created_at")
            if created is None:
                raise UnknownJob(before)
            highest = float(created)
        start = 0
        while True:
            rows = cast(
                "list[tuple[bytes, float]]",
                client.zrevrangebyscore(index, highest, "-inf", start=start, num=PAGE, withscores=True),
            )
            for name, created_at in rows:
                # Of jobs that were created at the same moment the order is that of their ids.
                if before is None or created_at < float(highest) or name.decode() < before:
                    yield name.decode()
            if len(rows) < PAGE:
                return
            start += PAGE

    def _transition(  # noqa: PLR0913 - each is an argument of the script
        self,
        job_id: str,
        status: Status | None,
        allowed: Iterable[str],
        fields: Mapping[str, Any] | None = None,
        *,
        counts: list[str] | None = None,
        event: tuple[Status, dict[str, Any]] | None = None,
        failure: str | None = None,
        token: int | None = None,
        begins: str | None = None,
        finishes: str | None = None,
        message: Letter | None = None,
    ) -> int | None:
        """Run transition.lua.

        Returns:
            The token that was issued, or 1: done; 0: the job's status forbids it, or the attempt is stale; None: there
            is no such job.
        """
        now = time.time()
        entered, detail = event or (status, {})
        notify = delivery(job_id) if status in lifecycle.NOTIFIED else None
        spec = {
            "job": job_id,
            "now": now,
            "ttl": self._store.config.result_ttl_ms,
            "status": status,
            "allowed": list(allowed),
            "ended": status in ENDED,
            "needs_source": status in lifecycle.NEEDS_SOURCE,
            "arrives": status in lifecycle.NOTIFIED,
            "token": token,
            "begins": begins,
            "finishes": finishes,
            "counts": counts or [],
            "event": json.dumps({"at": now, "status": entered, "detail": detail}),
            "failure": failure,
            "notify": None if notify is None else {"id": notify.redis_id, "body": notify.body},
            "message": None
            if message is None
            else {"queue": message.queue, "id": message.redis_id, "body": message.body},
            "deleted": DELETED,
        }
        pairs = [text for name, value in (fields or {}).items() for text in (name, "" if value is None else str(value))]
        touched = [
            *(keys.record(job_id), keys.events(job_id), keys.UNFINISHED, keys.OUTBOX, keys.COUNTS, keys.SPENT),
            *(keys.ARRIVALS, keys.EXPIRING, keys.INDEX, keys.NAMESPACE),
        ]
        text = json.dumps({name: value for name, value in spec.items() if value is not None})
        answer = int(scripts.named("transition").run(self._store.redis, touched, text, *pairs, str(now)))
        return None if answer < 0 else answer


UPLOAD = "upload:"  # how the source of an upload begins


def is_end(event: Event) -> bool:
    """Return whether a job has ended with this event, unless it was retried since."""
    return event.status in ENDED and not event.detail


def parse(job_id: str, fields: Mapping[bytes, bytes]) -> Job:
    """Return the record that a hash holds.

    Raises:
        UnknownJob: the hash is empty, or a tombstone.
    """
    values = {name.decode(): value.decode() for name, value in fields.items()}
    if parse_status(fields.get(b"status")) is None:
        raise UnknownJob(job_id)

    def number(name: str) -> float | None:
        return float(values[name]) if name in values else None

    def document(name: str) -> Any:
        return json.loads(values[name]) if name in values else None

    def failure(name: str) -> Failure | None:
        return Failure.from_dict(document(name)) if name in values else None

    stages = {
        stage: StageTimes(
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
        options=stored_options(options),
        stages=stages,
        owner=values.get("owner"),
        lane=values.get("lane", Lane.INTERACTIVE),
        rerun_of=values.get("rerun_of"),
        edited_at=number("edited_at"),
        audio=Audio.from_dict(document("audio")) if "audio" in values else None,
        transcript=Transcript.from_dict(document("transcript")) if "transcript" in values else None,
        enrichment=Enrichment.from_dict(document("enrichment")) if "enrichment" in values else None,
        enrichment_skipped=document("enrichment_skipped"),
        enrichment_error=failure("enrichment_error"),
        error=failure("error"),
        redecodes=int(values.get("redecodes", 0)),
        webhook=_deliveries(values) if "webhook.receiver" in values else None,
    )


def _outline(job_id: str, values: list[bytes | None]) -> Job | None:
    fields = {name.encode(): value for name, value in zip(OUTLINE, values, strict=True) if value is not None}
    try:
        return parse(job_id, fields)
    except UnknownJob:
        return None


def _deliveries(values: Mapping[str, str]) -> Deliveries:

    def at(name: str) -> float | None:
        return float(values[f"webhook.{name}"]) if f"webhook.{name}" in values else None

    def failure(name: str) -> Failure | None:
        text = values.get(f"webhook.{name}")
        return Failure.from_dict(json.loads(text)) if text else None

    return Deliveries(
        receiver=values["webhook.receiver"],
        pending=tuple(event.split(":")[1] for event in values.get("webhook.pending", "").split()),
        attempts=int(values.get("webhook.attempts", 0)),
        delivered=values.get("webhook.delivered"),
        last_at=at("last_at"),
        next_at=at("next_at"),
        delivered_at=at("delivered_at"),
        last_status=json.loads(values.get("webhook.last_status", "null")),
        last_error=failure("last_error"),
        stopped=failure("stopped"),
    )


def parse_status(value: bytes | str | None) -> str | None:
    """Return a status read from Redis; None for a job that does not exist any more."""
    status = _text(value)
    return status if status not in ("", DELETED) else None


def receiver_of(url: str) -> str:
    """Return the server of a URL as `scheme://host:port`: the deliveries to it share its outages.

    Raises:
        JobError: `invalid_options`: it is not an http(s) URL.
    """
    try:
        address = urlsplit(url)
        port = address.port or {"http": 80, "https": 443}[address.scheme]
    except (ValueError, KeyError):
        raise JobError(ErrorCode.INVALID_OPTIONS, "the address of a webhook must be an http(s) URL") from None
    if not address.hostname:
        raise JobError(ErrorCode.INVALID_OPTIONS, "the address of a webhook names no host")
    host = f"[{address.hostname}]" if ":" in address.hostname else address.hostname
    return f"{address.scheme}://{host}:{port}"


def masked(source: str) -> str:
    """Return a source fit to be shown: no user, password, query or fragment, and no bytes of a data: URL."""
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
    # A malformed URL, or a URL within one: whatever stands before an @ may be a password.
    return f"{scheme}:{re.split('[?#]', rest.rpartition('@')[2], maxsplit=1)[0]}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
