"""What lies in the queues, as Dramatiq's scripts keep it: lengths, dead letters, and whether there is room for more.

Part of the backend's path: the standard library and redis, nothing else. Keys, for each stage:

- `<ns>:<stage>` list of waiting messages' ids; `<ns>:<stage>.DQ` those that wait for their time
- `<ns>:<stage>.msgs`, `<ns>:<stage>.DQ.msgs` hashes of all messages that are not done with, in hand or not
- `<ns>:<stage>.XQ` sorted set of dead letters' ids by the time of their death (ms); `<ns>:<stage>.XQ.msgs` hash of them
- `<ns>:webhook` and its like are those of the webhook workers, who are no stage: voicemill/store/outbox.py
- `<ns>:beats` sorted set of the workers' ids by their last sign of life (ms, by the server's clock: actors/beat.lua)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from voicemill import variables
from voicemill.errors import JobError
from voicemill.store import audio as handoff
from voicemill.store import connection, jobs
from voicemill.store.jobs import STAGES

if TYPE_CHECKING:
    from voicemill.store.outbox import Receiver

WEBHOOK = "webhook"  # the queue that is no stage's
QUEUES = (*STAGES, WEBHOOK)
UNREADABLE = "?"
NO_RECORD = "unknown"  # code of a dead letter whose job's record is gone
BEATS_KEY = f"{connection.NAMESPACE}:beats"

# Default of the setting of this name; a test holds it to config/settings.py.
MAX_QUEUED = 100_000  # messages

PIECE = 500  # dead letters that are read at a time

_RESCUE = (Path(__file__).parent / "rescue.lua").read_text(encoding="utf-8")
_scripts: dict[int, Any] = {}  # by client: a script remembers the client that it was registered with


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
    job_id: str  # UNREADABLE, where its body is no message
    stage: str  # or "webhook"
    at: float  # Unix seconds
    code: str  # one of voicemill/errors.py, or NO_RECORD
    reason: str


def key(stage: str, suffix: str = "") -> str:
    """Return the key of a stage's list of waiting messages, or with a suffix what belongs to it."""
    return f"{connection.NAMESPACE}:{stage}{suffix}"


def depths(told: list[Receiver] | None = None) -> dict[str, Depth]:
    """Return how many messages each queue has.

    Args:
        told: the receivers of webhooks, where they have been read already; None: they are read.
    """
    from voicemill.store import outbox  # noqa: PLC0415 - senders pay for none of it

    with connection.client().pipeline(transaction=False) as pipe:
        for stage in STAGES:
            pipe.llen(key(stage))
            pipe.hlen(key(stage, ".msgs"))
            pipe.hlen(key(stage, ".DQ.msgs"))
            pipe.zcard(key(stage, ".XQ"))
        pipe.zcard(key(WEBHOOK, ".XQ"))
        counts = iter(pipe.execute())
    found = {}
    for stage in STAGES:
        waiting, held, delayed, dead = (next(counts) for _ in range(4))
        found[stage] = Depth(waiting, max(0, held - waiting), delayed, dead)
    told = outbox.receivers() if told is None else told
    return found | {
        WEBHOOK: Depth(
            waiting=sum(receiver.waiting for receiver in told),
            in_progress=sum(receiver.in_progress for receiver in told),
            delayed=sum(receiver.delayed for receiver in told),
            dead=next(counts),
        )
    }


def full(*stages: str, decoding: bool = False) -> str | None:
    """Return why nothing more should be sent towards these stages; None: there is room.

    `MAX_QUEUED` in the environment bounds the messages of each, those in hand too but not the delayed ones, and
    `handoff.full` what waits between them.

    Raises:
        JobError: `invalid_settings`: one of them is no number.
    """
    limit = int(variables.number("MAX_QUEUED", MAX_QUEUED))
    client = connection.client()
    for stage in stages:
        count = client.hlen(key(stage, ".msgs"))
        if count >= limit:
            return f"{count} messages wait for {stage}, and MAX_QUEUED is {limit}"
    return handoff.full(decoding=decoding)


def demand_room(*stages: str) -> None:
    """Refuse what would be too much.

    Raises:
        JobError: `system_full`.
    """
    if reason := full(*stages):
        raise JobError("system_full", reason)


def oldest(stage: str) -> float | None:
    """Return how long ago the oldest message that waits was sent (seconds); None: there is none, or it is none.

    Both ends are looked at: what is tried again, or was taken from a dead worker, waits at the tail.
    """
    with connection.client().pipeline(transaction=False) as pipe:
        pipe.lindex(key(stage), 0)
        pipe.lindex(key(stage), -1)
        ends = [found for found in pipe.execute() if found is not None]
    if not ends:
        return None
    messages = cast("list[bytes | None]", connection.client().hmget(key(stage, ".msgs"), ends))
    sent = [at for at in map(_sent_at, messages) if at is not None]
    return max(0.0, time.time() - min(sent)) if sent else None


def _sent_at(message: bytes | None) -> float | None:
    """Return when a message was sent (Unix seconds); None: it is gone, or no message of Dramatiq's."""
    try:
        return None if message is None else json.loads(message)["message_timestamp"] / 1000
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def job_of(message: bytes) -> str | None:
    """Return the job that a message in a queue belongs to; None: it is no message of Dramatiq's."""
    try:
        found = json.loads(message)["message_id"]
    except (ValueError, TypeError, KeyError):
        return None
    return found if jobs.is_id(found) else None


def job_ids() -> set[str | None]:
    """Return the jobs that have a message anywhere: waiting, in hand, or delayed."""
    found = set()
    for stage in STAGES:
        for suffix in (".DQ.msgs", ".msgs"):
            for _, message in connection.client().hscan_iter(key(stage, suffix), count=500):
                found.add(job_of(message))
    return found


def rescue() -> int:
    """Queue the messages again that are in no list and in no worker's hands, and return how many there were.

    That is what an eviction of a list, or of what a worker has in hand, leaves behind.
    """
    client = connection.client()
    if id(client) not in _scripts:
        _scripts.clear()
        _scripts[id(client)] = client.register_script(_RESCUE)
    names = [f"{queue}{suffix}" for queue in QUEUES for suffix in ("", ".DQ")]
    return int(_scripts[id(client)](keys=[connection.NAMESPACE], args=names))


def dead_letters(stage: str | None = None) -> Iterator[DeadLetter]:
    """Yield the dead letters of one queue or of all, the oldest first."""
    for name in QUEUES if stage is None else (stage,):
        found = cast("Any", connection.client().zrange(key(name, ".XQ"), 0, -1, withscores=True))
        for start in range(0, len(found), PIECE):
            yield from _read([(name, letter, at) for letter, at in found[start : start + PIECE]])


def last_dead_letters(count: int) -> list[DeadLetter]:
    """Return the `count` dead letters of all queues that died last, the last one first."""
    with connection.client().pipeline(transaction=False) as pipe:
        for name in QUEUES:
            pipe.zrevrange(key(name, ".XQ"), 0, count - 1, withscores=True)
        answers = cast("list[list[tuple[bytes, float]]]", pipe.execute())
    found = [(name, letter, at) for name, letters in zip(QUEUES, answers, strict=True) for letter, at in letters]
    return list(_read(sorted(found, key=lambda row: row[2], reverse=True)[:count]))


def dead_letter(stage: str, job_id: str) -> DeadLetter | None:
    """Return the dead letter of a job in a queue; None: there is none."""
    client = connection.client()
    for letter, message in client.hscan_iter(key(stage, ".XQ.msgs"), count=PIECE):
        if job_of(message) == job_id:
            at = client.zscore(key(stage, ".XQ"), letter)
            return None if at is None else next(_read([(stage, letter, at)]), None)
    return None


def _read(found: list[tuple[str, bytes, float]]) -> Iterator[DeadLetter]:
    """Yield dead letters by their queue, Redis's id and time of death (ms), without those that are gone."""
    with connection.client().pipeline(transaction=False) as pipe:
        for stage, letter, _ in found:
            pipe.hget(key(stage, ".XQ.msgs"), cast("Any", letter))
        messages = pipe.execute()
        there = [(row, job_of(data) or UNREADABLE) for row, data in zip(found, messages, strict=True) if data]
        for (stage, _, _), job_id in there:
            pipe.hget(jobs.record_key(job_id), "webhook.stopped" if stage == WEBHOOK else "error")
        errors = pipe.execute()
    for ((stage, letter, at), job_id), error in zip(there, errors, strict=True):
        why = "it is no message: drop it" if job_id == UNREADABLE else "the job's record has expired"
        told = json.loads(error) if error else {"code": NO_RECORD, "message": why}
        yield DeadLetter(letter, job_id, stage, at / 1000, told["code"], told["message"])


def killed() -> dict[str, str]:
    """Return the stages of the jobs whose dead letters took their workers with them, by the jobs' ids.

    beat.lua, which puts those among the dead, has counted behind the letter's id.
    """
    found = {}
    for stage in STAGES:
        for letter, message in connection.client().hscan_iter(key(stage, ".XQ.msgs"), count=500):
            if b"~" in letter and (job_id := job_of(message)):
                found[job_id] = stage
    return found


def drop(letter: DeadLetter) -> None:
    """Remove a dead letter; its job stays as it is."""
    with connection.client().pipeline(transaction=True) as pipe:
        pipe.zrem(key(letter.stage, ".XQ"), letter.id)
        pipe.hdel(key(letter.stage, ".XQ.msgs"), letter.id)
        pipe.execute()


def goes_on_in(letter: DeadLetter) -> str | None:
    """Return the queue in which the work of a dead letter's job can go on; None: the job is gone, or ended otherwise.

    That is the stage that failed, while what it needs is still there, and decode otherwise; "webhook" for a delivery.
    """
    if letter.stage == WEBHOOK:
        return WEBHOOK
    try:
        job = jobs.get(letter.job_id)
    except jobs.UnknownJob:
        return None
    if job.status != "failed":
        return None
    if job.transcript is not None:
        return "enrich"
    return "transcribe" if letter.stage == "transcribe" and handoff.exists(letter.job_id) else "decode"


def revive(letter: DeadLetter) -> str | None:
    """Put a dead letter's job back to where its work can go on, and return the queue to send it to, or None."""
    queue = goes_on_in(letter)
    if queue == WEBHOOK:
        from voicemill.store import outbox  # noqa: PLC0415 - senders pay for none of it

        return WEBHOOK if outbox.revive(letter.job_id) else None
    return queue if queue is not None and jobs.restart(letter.job_id, queue) else None
