"""Pending webhooks: transition.lua adds events job by job, and the webhook workers deliver them.

A receiver is a server (`https://host:port`): its deliveries share its outages. What a job has to deliver is in its
record (`webhook.*`). Beside it there are, under `<ns>:webhook`:

- `…:jobs:<receiver>` sorted set of the jobs with pending events, by when each is due (Unix seconds)
- `…:busy:<receiver>` sorted set of the jobs with a delivery in progress, by when that must be over
- `…:receiver:<receiver>` hash: failures in a row (`streak`), `since` when, the last `error`, `pauses` in a row and
  `until` when it is left alone; or that it is `slow`
- `…:receivers` sorted set of receivers with jobs, by when to check them next
- `…:counts` hash: how many deliveries were delivered, skipped, failed and stopped, ever

A message in the queue says only that there may be something to do for a receiver; one too many does no harm.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from voicemill.job import Failure
from voicemill.store import keys, scripts
from voicemill.store.queue import delivery

if TYPE_CHECKING:
    from voicemill.store import Store

AT_ONCE = 4  # deliveries to one receiver in progress: half the threads of a worker
ERRORS_IN_A_ROW = 5  # after which a receiver that answers is left alone like one that does not
VERDICTS = ("delivered", "skipped", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Order:
    """A job that was taken for delivery, or none: then when to check again, if that is this worker's to do."""

    job_id: str | None
    check_at: float | None = None  # Unix seconds
    more: bool = False  # whether another worker would find work, too


@dataclass(frozen=True, slots=True)
class Notification:
    """Something that a receiver is notified of."""

    number: int  # from 1, of this job
    status: str  # that the job entered
    at: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is pending of one job: the URL, with its secrets, and the notifications, the first one first."""

    url: str
    pending: list[Notification]
    attempts: int  # at the first one, the present attempt included
    since: float  # when the first one's turn came (Unix seconds)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a delivery went; `health`, the receiver's: ok, answered (with an error), down, or empty: not asked."""

    name: str  # one of VERDICTS
    health: str = ""
    due: float = 0.0  # when the job is due again (Unix seconds)
    leave_alone: float = 0.0  # how long the receiver asks for (seconds)
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Receiver:
    """A server with pending webhooks."""

    name: str  # scheme://host:port
    waiting: int  # jobs that are due now
    in_progress: int
    delayed: int  # jobs whose next attempt is later
    oldest: float  # when the first of them is or was due (Unix seconds)
    failures: int = 0  # in a row
    failing_since: float | None = None  # Unix seconds
    paused_until: float | None = None  # Unix seconds
    error: Failure | None = None  # the last one

    @property
    def undelivered(self) -> int:
        """How many jobs have something pending for it."""
        return self.waiting + self.in_progress + self.delayed


class Outbox:
    """The pending webhooks in one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, receiver: str, lease: float) -> Order:
        """Take the receiver's next job for at most `lease` seconds."""
        arguments = (receiver, time.time(), lease, AT_ONCE)
        job_id, check_at, more = self._run("take", [keys.OUTBOX, keys.RECORDS], *arguments)
        return Order(_text(job_id) or None, float(check_at) if check_at else None, bool(more))

    def pending(self, job_id: str) -> Delivery | None:
        """Return what is pending of a job; None: nothing any more."""
        names = ("webhook.url", "webhook.pending", "webhook.attempts", "webhook.since")
        url, pending, attempts, since = self._store.redis.hmget(keys.record(job_id), *names)
        if url is None or not pending:
            return None
        parts = [event.split(":") for event in _text(pending).split()]
        found = [Notification(int(number), status, float(at)) for number, status, at in parts]
        return Delivery(_text(url), found, int(attempts or 1), float(since or 0))

    def settle(
        self,
        job_id: str,
        receiver: str,
        notification: Notification,
        verdict: Verdict,
        fields: dict[str, str],
        pauses: list[float],
    ) -> float | None:
        """Note how a delivery went.

        Args:
            job_id: the job.
            receiver: its receiver.
            notification: what was to be delivered.
            verdict: how that went.
            fields: of the record, without their prefix `webhook.`; an empty value removes one.
            pauses: how long the receiver is left alone after one, two, ... failures (seconds).

        Returns:
            When to check the receiver again (Unix seconds); None: nothing is pending.
        """
        dead = delivery(job_id) if verdict.name == "stopped" else None
        arguments: list[Any] = [
            *(job_id, receiver, time.time(), self._store.config.result_ttl_ms, notification.number),
            *(verdict.name, verdict.due, verdict.health, verdict.leave_alone, " ".join(map(str, pauses))),
            *(ERRORS_IN_A_ROW, int(verdict.slow)),
            *((dead.body, dead.redis_id) if dead else ("", "")),
        ]
        for name, value in fields.items():
            arguments += [f"webhook.{name}", value]
        answer = self._run("settle", [keys.OUTBOX, keys.record(job_id)], *arguments)
        return float(answer) if answer else None

    def due(self) -> tuple[float | None, list[tuple[str, str]]]:
        """Return when the next receiver is due (Unix seconds), and those that are now, each with one of its jobs."""
        following, *found = self._run("due", [keys.OUTBOX], time.time())
        names = [_text(name) for name in found]
        return float(following) if following else None, list(zip(names[::2], names[1::2], strict=True))

    def revive(self, job_id: str) -> bool:
        """Begin a job's deliveries again. Return False if there are none."""
        return bool(self._run("revive", [keys.OUTBOX, keys.record(job_id)], job_id, time.time()))

    def receiver(self, job_id: str) -> str | None:
        """Return the receiver that a job names; None: it names none, or is gone."""
        found = self._store.redis.hget(keys.record(job_id), "webhook.receiver")
        return None if found is None else _text(found)

    def receivers(self) -> list[Receiver]:
        """Return the receivers with pending webhooks, by name."""
        client, now = self._store.redis, time.time()
        names = sorted(_text(name) for name in cast("list[bytes]", client.zrange(keys.RECEIVERS, 0, -1)))
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcount(keys.outbox("jobs", name), "-inf", now)
                pipe.zcard(keys.outbox("jobs", name))
                pipe.zcount(keys.outbox("busy", name), now, "+inf")
                pipe.zrange(keys.outbox("jobs", name), 0, 0, withscores=True)
                pipe.hgetall(keys.outbox("receiver", name))
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
                    error=Failure.from_dict(json.loads(state["error"])) if "error" in state else None,
                )
            )
        return found

    def counts(self) -> dict[str, int]:
        """Return how many deliveries ended with each of VERDICTS, ever."""
        found = cast("dict[bytes, bytes]", self._store.redis.hgetall(keys.DELIVERIES))
        return {verdict: int(found.get(verdict.encode(), 0)) for verdict in VERDICTS}

    def _run(self, name: str, touched: list[str], *arguments: Any) -> Any:
        return scripts.named(name).run(self._store.redis, touched, *arguments)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
