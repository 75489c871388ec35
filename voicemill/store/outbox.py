"""Webhook events that are still to be delivered: advance.lua adds them, job by job, and the webhook workers empty it.

The standard library and redis, nothing else. A receiver is a server (`https://host:port`): its deliveries share its
good and bad days. What a job has to tell lies in its record (`webhook.*`); beside it lie, under `<ns>:webhook`:

- `…:jobs:<receiver>` sorted set of the jobs with something to tell, by when each is due (Unix seconds)
- `…:busy:<receiver>` sorted set of the jobs that are being told about, by when that must be over
- `…:receiver:<receiver>` hash: failures in a row (`streak`), `since` when, the last `error`, `pauses` in a row and
  `until` when it is left alone; or that it is `slow`
- `…:receivers` sorted set of receivers with jobs, by when to look at them next
- `…:counts` hash: how many deliveries were delivered, skipped, failed and stopped, ever

A message in the queue says no more than that there may be something to do for a receiver; one too many does no harm.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from voicemill.errors import JobError
from voicemill.store import connection, jobs
from voicemill.store.jobs import OUTBOX_KEY

RECEIVERS_KEY = f"{OUTBOX_KEY}:receivers"
COUNTS_KEY = f"{OUTBOX_KEY}:counts"
AT_ONCE = 4  # deliveries to one receiver under way: half the threads of a worker
ERRORS_IN_A_ROW = 5  # after which a receiver that answers is left alone like one that does not
VERDICTS = ("delivered", "skipped", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Order:
    """A job that was taken to be told about, or none: then when to look again, if that is this worker's to do."""

    job_id: str | None
    look_at: float | None = None  # Unix seconds
    more: bool = False  # whether another worker would find work, too


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a receiver is to be told of a job."""

    number: int  # from 1, of this job
    status: str  # that the job entered
    at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Errand:
    """What is pending of one job: the address, with its secrets, and the events, the first one first."""

    url: str
    events: list[Event]
    attempts: int  # at the first event, the present one included
    since: float  # when the first event's turn came (Unix seconds)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery went; `health`, the receiver's: ok, answered (with an error), down, or empty: not asked."""

    verdict: str  # one of VERDICTS
    health: str = ""
    due: float = 0.0  # when the job is due again (Unix seconds)
    leave_alone: float = 0.0  # how long the receiver asks for (seconds)
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Receiver:
    """A server that is still to be told something."""

    name: str  # scheme://host:port
    waiting: int  # jobs that would be told about now
    in_progress: int
    delayed: int  # jobs whose next try is later
    oldest: float  # when the first of them is or was due (Unix seconds)
    failures: int = 0  # in a row
    failing_since: float | None = None  # Unix seconds
    paused_until: float | None = None  # Unix seconds
    error: dict[str, Any] | None = None  # the last one

    @property
    def undelivered(self) -> int:
        """How many jobs have something to tell it."""
        return self.waiting + self.in_progress + self.delayed


def take(receiver: str, lease: float) -> Order:
    """Take the receiver's next job for at most `lease` seconds."""
    job_id, look_at, more = _run("take", [OUTBOX_KEY, jobs.record_key("")], receiver, time.time(), lease, AT_ONCE)
    return Order(_text(job_id) or None, float(look_at) if look_at else None, bool(more))


def errand(job_id: str) -> Errand | None:
    """Return what is pending of a job; None: nothing any more."""
    names = ("webhook.url", "webhook.pending", "webhook.attempts", "webhook.since")
    url, pending, attempts, since = connection.client().hmget(jobs.record_key(job_id), *names)
    if url is None or not pending:
        return None
    parts = [event.split(":") for event in _text(pending).split()]
    events = [Event(int(number), status, float(at)) for number, status, at in parts]
    return Errand(_text(url), events, int(attempts or 1), float(since or 0))


def settle(
    job_id: str, receiver: str, event: Event, outcome: Outcome, fields: dict[str, str], pauses: list[float]
) -> float | None:
    """Note how a delivery went.

    Args:
        job_id: the job.
        receiver: its receiver.
        event: what it was to be told.
        outcome: how that went.
        fields: of the record, without their prefix `webhook.`; an empty value removes one.
        pauses: how long the receiver is left alone after one, two, ... failures (seconds).

    Returns:
        When to look at the receiver again (Unix seconds); None: all is told.
    """
    letter, redis_id = jobs.delivery_message(job_id) if outcome.verdict == "stopped" else ("", "")
    arguments: list[Any] = [job_id, receiver, time.time(), jobs.ttl_ms(), event.number, outcome.verdict, outcome.due]
    arguments += [outcome.health, outcome.leave_alone, " ".join(map(str, pauses)), ERRORS_IN_A_ROW, int(outcome.slow)]
    arguments += [letter, redis_id]
    for name, value in fields.items():
        arguments += [f"webhook.{name}", value]
    answer = _run("settle", [OUTBOX_KEY, jobs.record_key(job_id)], *arguments)
    return float(answer) if answer else None


def due() -> tuple[float | None, list[tuple[str, str]]]:
    """Return when the next receiver is due (Unix seconds), and those that are now, each with one of its jobs."""
    following, *found = _run("due", [OUTBOX_KEY], time.time())
    names = [_text(name) for name in found]
    return float(following) if following else None, list(zip(names[::2], names[1::2], strict=True))


def revive(job_id: str) -> bool:
    """Begin a job's deliveries anew. False: there are none."""
    return bool(_run("revive", [OUTBOX_KEY, jobs.record_key(job_id)], job_id, time.time()))


def receiver_of(job_id: str) -> str | None:
    """Return the receiver that a job names; None: it names none, or is gone."""
    found = connection.client().hget(jobs.record_key(job_id), "webhook.receiver")
    return None if found is None else _text(found)


def receivers() -> list[Receiver]:
    """Return the receivers that are still to be told something, by name."""
    client, now = connection.client(), time.time()
    names = sorted(_text(name) for name in cast("list[bytes]", client.zrange(RECEIVERS_KEY, 0, -1)))
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.zcount(jobs.outbox_key("jobs", name), "-inf", now)
            pipe.zcard(jobs.outbox_key("jobs", name))
            pipe.zcount(jobs.outbox_key("busy", name), now, "+inf")
            pipe.zrange(jobs.outbox_key("jobs", name), 0, 0, withscores=True)
            pipe.hgetall(jobs.outbox_key("receiver", name))
        answers = iter(pipe.execute())
    found = []
    for name in names:
        ready, total, busy, first, fields = (next(answers) for _ in range(5))
        if not total:
            continue
        state = {field.decode(): value.decode() for field, value in fields.items()}
        busy = min(busy, total - ready)
        until = float(state.get("until", 0))
        found.append(
            Receiver(
                name=name,
                waiting=ready,
                in_progress=busy,
                delayed=total - ready - busy,
                oldest=first[0][1],
                failures=int(state.get("streak", 0)),
                failing_since=float(state["since"]) if "since" in state else None,
                paused_until=until if until > now else None,
                error=json.loads(state["error"]) if "error" in state else None,
            )
        )
    return found


def counts() -> dict[str, int]:
    """Return how many deliveries ended with each of VERDICTS, ever."""
    found = cast("dict[bytes, bytes]", connection.client().hgetall(COUNTS_KEY))
    return {verdict: int(found.get(verdict.encode(), 0)) for verdict in VERDICTS}


def described(error: JobError) -> str:
    """Return an error as the record keeps it."""
    return json.dumps(jobs.describe(error))


@cache
def _source(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")


def _run(name: str, keys: list[str], *arguments: Any) -> Any:
    return connection.client().register_script(_source(name))(keys=keys, args=arguments)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
