"""What enrichment has cost: of each job until it is done, and of each day.

`keys.spending(job)` is a hash: `tries`, `wrong`, `failures`, `outages`, `input_tokens`, `output_tokens`, `seconds`,
`micros` (millionths of a dollar; `unpriced` requests have no price), whether a failure was `forgiven`, and the parts of
a long transcript that are done, which pipeline/enrich keeps there. The sums of a day are in `keys.spending_of_day`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from voicemill.store import keys

if TYPE_CHECKING:
    from voicemill.store import Store

TOTALS_TTL = 400 * 86400  # seconds that a day's sums are kept
FIELDS = ("tries", "wrong", "failures", "outages", "input_tokens", "output_tokens", "seconds", "micros", "unpriced")
FORGIVEN = "forgiven"


@dataclass(frozen=True, slots=True)
class Spent:
    """What requests have cost so far."""

    tries: int = 0  # requests that were sent
    failures: int = 0  # of them, those that failed for a reason of their own
    outages: int = 0  # of them, those that the provider did not answer or was too busy for, probes included
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0  # waiting for the provider
    cost_usd: float | None = 0.0  # estimate; None: a request had no price
    wrong: int = 0  # of the requests, those that failed for whatever reason


class Spending:
    """The costs of enrichment in one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, job_id: str, ttl: float, spent: Spent) -> Spent:
        """Add one request to a job's account and to the day's sums, and return the job's account.

        Args:
            job_id: the job.
            ttl: how long its account is kept (seconds).
            spent: what the request cost.
        """
        micros = 0 if spent.cost_usd is None else round(spent.cost_usd * 1e6)
        counts = {
            "tries": spent.tries,
            "wrong": spent.wrong,
            "failures": spent.failures,
            "outages": spent.outages,
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "micros": micros,
            "unpriced": int(spent.cost_usd is None),
        }
        with self._store.redis.pipeline(transaction=True) as pipe:
            for account, expiry in ((keys.spending(job_id), ttl), (keys.spending_of_day(_day()), TOTALS_TTL)):
                for name, count in counts.items():
                    pipe.hincrby(account, name, count)
                pipe.hincrbyfloat(account, "seconds", spent.seconds)
                pipe.pexpire(account, int(expiry * 1000))
            pipe.execute()
        return self.of_job(job_id)

    def of_job(self, job_id: str) -> Spent:
        """Return what a job's requests have cost so far."""
        values = cast("list[bytes | None]", self._store.redis.hmget(keys.spending(job_id), list(FIELDS)))
        return _spent({name: value for name, value in zip(FIELDS, values, strict=True) if value is not None})

    def count_job(self) -> None:
        """Count a summary that was written, in the day's sums."""
        self._store.redis.hincrby(keys.spending_of_day(_day()), "jobs", 1)

    def close(self, job_id: str, *, parts: bool) -> dict[str, Any]:
        """Close a job's account; its stored `parts` are removed with it or left for another try.

        Returns:
            What it came to, as the job's record keeps it: `usage` {input_tokens, output_tokens}, `latency` (seconds
            spent waiting for the provider), `tries` (requests), `cost_usd` (estimate; None: no price is known).
        """
        spent = self.of_job(job_id)
        if parts:
            self._store.redis.delete(keys.spending(job_id))
        else:
            self._store.redis.hdel(keys.spending(job_id), *FIELDS, FORGIVEN)
        return {
            "usage": {"input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens},
            "latency": round(spent.seconds, 3),
            "tries": spent.tries,
            "cost_usd": None if spent.cost_usd is None else round(spent.cost_usd, 6),
        }

    def totals(self, days: int = 1) -> dict[str, Any]:
        """Return the sums of the last `days` days (UTC), today included, as `status` shows them."""
        sums: dict[bytes, float] = {}
        for back in range(days):
            day = keys.spending_of_day(_day(back))
            for name, value in cast("dict[bytes, bytes]", self._store.redis.hgetall(day)).items():
                sums[name] = sums.get(name, 0) + float(value)
        spent = _spent({name.decode(): str(value).encode() for name, value in sums.items()})
        return {
            "summaries": int(sums.get(b"jobs", 0)),
            "requests": spent.tries,
            "failures": spent.wrong,
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
            "cost_usd": round(sums.get(b"micros", 0) / 1e6, 6),
            "unpriced_requests": int(sums.get(b"unpriced", 0)),
        }


def _day(back: int = 0) -> str:
    return f"{datetime.fromtimestamp(time.time(), UTC) - timedelta(days=back):%Y-%m-%d}"


def _spent(values: dict[str, bytes]) -> Spent:
    def number(name: str) -> float:
        return float(values.get(name, 0))

    return Spent(
        tries=int(number("tries")),
        failures=int(number("failures")),
        outages=int(number("outages")),
        input_tokens=int(number("input_tokens")),
        output_tokens=int(number("output_tokens")),
        seconds=number("seconds"),
        cost_usd=None if number("unpriced") else number("micros") / 1e6,
        wrong=int(number("wrong")),
    )
