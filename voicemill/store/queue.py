"""What is in the queues, in Dramatiq's own layout: messages, depths, dead letters, and whether there is room for more.

This is the only module that knows Dramatiq's message format; keys.py has its keys. A test compares what is written here
with what stock Dramatiq writes. Messages carry ids alone: everything about a job is in its record.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.lifecycle import LAST, QUEUES, STAGES, WEBHOOK, Status, queue_of, stage_of
from voicemill.store import keys, scripts

if TYPE_CHECKING:
    from voicemill.store import Store
    from voicemill.store.outbox import Receiver

SCHEMA = 2  # version of the messages; 1 carried source and options to decode
UNREADABLE = "?"  # job id of a dead letter whose body is not a message
NO_RECORD = "unknown"  # code of a dead letter whose job's record is gone
PAGE = 500  # messages that are read at a time


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as Dramatiq keeps it: the queue, Redis's id of it, and its body."""

    queue: str
    redis_id: str
    body: str


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages of a queue are where; for webhooks, how many jobs."""

    waiting: int
    in_progress: int
    delayed: int
    dead: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message whose work failed for good."""

    id: bytes  # Redis's, not the job's
    job_id: str  # UNREADABLE if its body is not a message
    stage: str  # or "webhook"
    at: float  # Unix seconds
    code: str  # a value of `ErrorCode`, or NO_RECORD
    reason: str


def letter(stage: str, job_id: str, *, delay: float = 0.0) -> Letter:
    """Return a message that asks for a job's work in a stage.

    Args:
        stage: or "webhook".
        job_id: the job; the message has the same id.
        delay: seconds before it may be processed.
    """
    redis_id, now = str(uuid.uuid4()), int(time.time() * 1000)
    queue = queue_of(stage)
    options: dict[str, Any] = {"redis_message_id": redis_id}
    if delay > 0:
        queue = f"{queue}.DQ"
        options["eta"] = now + int(delay * 1000)
    message = {
        "queue_name": queue,
        "actor_name": stage,
        "args": [job_id],
        "kwargs": {"schema": SCHEMA},
        "options": options,
        "message_id": job_id,
        "message_timestamp": now,
    }
    return Letter(queue, redis_id, json.dumps(message, separators=(",", ":")))


def delivery(job_id: str) -> Letter:
    """Return a message to the webhook workers: there may be something to deliver for a job."""
    return letter(WEBHOOK, job_id)


class Queues:
    """The queues in one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def depths(self, receivers: list[Receiver] | None = None) -> dict[str, Depth]:
        """Return how many messages each queue has.

        Args:
            receivers: of webhooks, if they have been read already; None: they are read.
        """
        with self._store.redis.pipeline(transaction=False) as pipe:
            for stage in STAGES:
                pipe.llen(keys.queue(stage))
                pipe.hlen(keys.queue(stage, ".msgs"))
                pipe.hlen(keys.queue(stage, ".DQ.msgs"))
                pipe.zcard(keys.queue(stage, ".XQ"))
            pipe.zcard(keys.queue(WEBHOOK, ".XQ"))
            counts = iter(pipe.execute())
        found = {}
        for stage in STAGES:
            waiting, held, delayed, dead = (next(counts) for _ in range(4))
            found[stage] = Depth(waiting, max(0, held - waiting), delayed, dead)
        pending = self._store.outbox.receivers() if receivers is None else receivers
        return found | {
            WEBHOOK: Depth(
                waiting=sum(receiver.waiting for receiver in pending),
                in_progress=sum(receiver.in_progress for receiver in pending),
                delayed=sum(receiver.delayed for receiver in pending),
                dead=next(counts),
            )
        }

    def full(self, *stages: str, decoding: bool = False) -> str | None:
        """Return why nothing more should be sent towards these stages; None: there is room.

        `max_queued` bounds the messages of each stage, those in progress too but not the delayed ones, and
        `Audio.full` the audio between them.
        """
        limit = self._store.config.max_queued
        for stage in stages:
            count = self._store.redis.hlen(keys.queue(stage, ".msgs"))
            if count >= limit:
                return f"{count} messages wait for {stage}, and MAX_QUEUED is {limit}"
        return self._store.audio.full(decoding=decoding)

    def demand_room(self, *stages: str) -> None:
        """Refuse a message if too much waits.

        Raises:
            JobError: `system_full`.
        """
        if reason := self.full(*stages):
            raise JobError(ErrorCode.SYSTEM_FULL, reason)

    def push(self, message: Letter) -> None:
        """Put a message into its queue."""
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.queue(message.queue, ".msgs"), message.redis_id, message.body)
            pipe.rpush(keys.queue(message.queue), message.redis_id)
            pipe.execute()

    def replace_body(self, queue: str, redis_id: str, job_id: str) -> None:
        """Replace the body of a message in progress by one that carries the job's id alone.

        When it was sent and how often it was retried stay: the job's age and its number of attempts depend on them.
        """
        messages = keys.queue(queue, ".msgs")
        present = self._store.redis.hget(messages, redis_id)
        if present is None:
            return
        sent, body = json.loads(present), json.loads(letter(stage_of(queue), job_id).body)
        body["queue_name"] = queue
        body["message_timestamp"] = sent["message_timestamp"]
        body["options"] = {"redis_message_id": redis_id}
        if "retries" in sent["options"]:
            body["options"]["retries"] = sent["options"]["retries"]
        self._store.redis.hset(messages, redis_id, json.dumps(body, separators=(",", ":")))

    def forget(self, job_id: str) -> None:
        """Remove a job's dead letters and delayed messages. A waiting message is dropped when its turn comes."""
        client = self._store.redis
        for queue in QUEUES:
            for suffix in (".XQ", ".DQ"):
                place = keys.queue(queue, suffix)
                messages = f"{place}.msgs"
                mine = [name for name, body in client.hscan_iter(messages, count=PAGE) if job_of(body) == job_id]
                if not mine:
                    continue
                with client.pipeline(transaction=True) as pipe:
                    pipe.hdel(messages, *mine)
                    for name in mine:
                        if suffix == ".XQ":
                            pipe.zrem(place, name)
                        else:
                            pipe.lrem(place, 0, name)
                    pipe.execute()

    def oldest(self, stage: str) -> float | None:
        """Return how long ago the oldest waiting message was sent (seconds); None: there is none, or it is unreadable.

        Both ends are checked: what is retried, or was reclaimed from a dead worker, waits at the tail.
        """
        client = self._store.redis
        with client.pipeline(transaction=False) as pipe:
            pipe.lindex(keys.queue(stage), 0)
            pipe.lindex(keys.queue(stage), -1)
            ends = [found for found in pipe.execute() if found is not None]
        if not ends:
            return None
        messages = cast("list[bytes | None]", client.hmget(keys.queue(stage, ".msgs"), ends))
        sent = [at for at in map(_sent_at, messages) if at is not None]
        return max(0.0, time.time() - min(sent)) if sent else None

    def job_ids(self) -> set[str | None]:
        """Return the jobs that have a message anywhere: waiting, in progress or delayed."""
        found = set()
        for stage in STAGES:
            for suffix in (".DQ.msgs", ".msgs"):
                for _, message in self._store.redis.hscan_iter(keys.queue(stage, suffix), count=PAGE):
                    found.add(job_of(message))
        return found

    def reclaim(self) -> int:
        """Queue the orphaned messages again that are in no list and taken by no worker, and return how many there were.

        That is what an eviction of a list, or of a worker's set of taken messages, leaves behind.
        """
        names = [f"{queue}{suffix}" for queue in QUEUES for suffix in ("", ".DQ")]
        return int(scripts.named("reclaim").run(self._store.redis, [keys.NAMESPACE], *names))

    def dead_letters(self, stage: str | None = None) -> Iterator[DeadLetter]:
        """Yield the dead letters of one queue or of all, the oldest first."""
        for name in QUEUES if stage is None else (stage,):
            found = cast("Any", self._store.redis.zrange(keys.queue(name, ".XQ"), 0, -1, withscores=True))
            for start in range(0, len(found), PAGE):
                yield from self._read([(name, one, at) for one, at in found[start : start + PAGE]])

    def last_dead_letters(self, count: int) -> list[DeadLetter]:
        """Return the `count` dead letters of all queues that died last, the last one first."""
        with self._store.redis.pipeline(transaction=False) as pipe:
            for name in QUEUES:
                pipe.zrevrange(keys.queue(name, ".XQ"), 0, count - 1, withscores=True)
            answers = cast("list[list[tuple[bytes, float]]]", pipe.execute())
        found = [(name, one, at) for name, letters in zip(QUEUES, answers, strict=True) for one, at in letters]
        return list(self._read(sorted(found, key=lambda row: row[2], reverse=True)[:count]))

    def dead_letter(self, stage: str, job_id: str) -> DeadLetter | None:
        """Return the dead letter of a job in a queue; None: there is none."""
        client = self._store.redis
        for name, message in client.hscan_iter(keys.queue(stage, ".XQ.msgs"), count=PAGE):
            if job_of(message) == job_id:
                at = client.zscore(keys.queue(stage, ".XQ"), name)
                return None if at is None else next(self._read([(stage, name, at)]), None)
        return None

    def killed(self) -> dict[str, str]:
        """Return the stages of the jobs whose dead letters killed their workers, by the jobs' ids.

        The heartbeat, which makes dead letters of those, has counted behind the letter's id.
        """
        found = {}
        for stage in STAGES:
            for name, message in self._store.redis.hscan_iter(keys.queue(stage, ".XQ.msgs"), count=PAGE):
                if b"~" in name and (job_id := job_of(message)):
                    found[job_id] = stage
        return found

    def drop(self, dead: DeadLetter) -> None:
        """Remove a dead letter; its job stays as it is."""
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.queue(dead.stage, ".XQ"), dead.id)
            pipe.hdel(keys.queue(dead.stage, ".XQ.msgs"), dead.id)
            pipe.execute()

    def resumes_in(self, dead: DeadLetter) -> str | None:
        """Return the queue in which a dead letter's job can go on; None: the job is gone, or ended otherwise.

        That is the stage that failed as long as its input exists, and decode otherwise; "webhook" for a delivery.
        """
        if dead.stage == WEBHOOK:
            return WEBHOOK
        try:
            job = self._store.jobs.get(dead.job_id)
        except UnknownJob:
            return None
        if job.status != Status.FAILED:
            return None
        if job.transcript is not None:
            return LAST
        has_audio = dead.stage != STAGES[0] and self._store.audio.exists(dead.job_id)
        return dead.stage if has_audio else STAGES[0]

    def retry(self, dead: DeadLetter) -> str | None:
        """Send a dead letter's job to where its work can go on, and return that queue.

        Return None if its record is gone, or it has ended otherwise meanwhile.

        Raises:
            JobError: `system_full`; the letter stays where it is.
        """
        queue = self.resumes_in(dead)
        if queue == STAGES[0]:
            self.demand_room(queue)
        if queue is None:
            return None
        if queue == WEBHOOK:
            if not self._store.outbox.revive(dead.job_id):
                return None
            self.push(delivery(dead.job_id))
        elif not self._store.jobs.restart(dead.job_id, queue):
            return None
        self.drop(dead)  # last: whoever is interrupted before may retry again
        return queue

    def _read(self, found: list[tuple[str, bytes, float]]) -> Iterator[DeadLetter]:
        """Yield dead letters by their queue, Redis's id and time of death (ms), without those that are gone."""
        with self._store.redis.pipeline(transaction=False) as pipe:
            for stage, name, _ in found:
                pipe.hget(keys.queue(stage, ".XQ.msgs"), cast("Any", name))
            messages = pipe.execute()
            there = [(row, job_of(data) or UNREADABLE) for row, data in zip(found, messages, strict=True) if data]
            for (stage, _, _), job_id in there:
                pipe.hget(keys.record(job_id), "webhook.stopped" if stage == WEBHOOK else "error")
            errors = pipe.execute()
        for ((stage, name, at), job_id), error in zip(there, errors, strict=True):
            why = "it is not a message: drop it" if job_id == UNREADABLE else "the job's record has expired"
            known = json.loads(error) if error else {"code": NO_RECORD, "message": why}
            yield DeadLetter(name, job_id, stage, at / 1000, known["code"], known["message"])


def job_of(message: bytes) -> str | None:
    """Return the job that a message in a queue belongs to; None: it is not a message of Dramatiq's."""
    try:
        found = json.loads(message)["message_id"]
    except (ValueError, TypeError, KeyError):
        return None
    return found if keys.is_id(found) else None


def _sent_at(message: bytes | None) -> float | None:
    """Return when a message was sent (Unix seconds); None: it is gone, or not a message of Dramatiq's."""
    try:
        return None if message is None else json.loads(message)["message_timestamp"] / 1000
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
