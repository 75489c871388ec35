"""What enrichment remembers of a job between tries, and what it has cost in all.

Under `{voicemill}:enrich:job:ID`, a hash: `tries`, `wrong`, `failures`, `outages`, `input_tokens`, `output_tokens`,
`seconds`, `micros` (millionths of a dollar; `unpriced` requests have no price), whether a failure was `forgiven`, and
the parts of a long transcript that are done, each under the digest of all that it was made of. The sums of a day lie
under `{voicemill}:enrich:totals:YYYY-MM-DD`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from voicemill.errors import ErrorCode, JobError
from voicemill.store import keys
from voicemill.store.jobs import DELETED

TOTALS_TTL = 400 * 86400  # seconds that a day's sums are kept
FIELDS = ("tries", "wrong", "failures", "outages", "input_tokens", "output_tokens", "seconds", "micros", "unpriced")
FORGIVEN = "forgiven"
PREFIX = f"{keys.NAMESPACE}:enrich"
UNWANTED = ("cancelled", DELETED)  # statuses of jobs whose summary nobody waits for

_STORE = """
local status = redis.call("HGET", KEYS[2], "status")
if status == ARGV[4] or status == ARGV[5] then
  return
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("PEXPIRE", KEYS[1], ARGV[3])
"""

_FORGIVE = """
for _, account in ipairs(KEYS) do
  local failures = tonumber(redis.call("HGET", account, "failures") or 0)
  if failures > 0 and redis.call("HSETNX", account, ARGV[1], 1) == 1 then
    redis.call("HINCRBY", account, "failures", -1)
  end
end
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What requests have cost so far."""

    tries: int = 0  # requests that went out
    failures: int = 0  # of them, those that went wrong through no trouble that all jobs have
    outages: int = 0  # of them, those that Gemini did not answer or was too busy for, probes included
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0  # waiting for Gemini
    cost_usd: float | None = 0.0  # estimate; None: a request had no price
    wrong: int = 0  # of the requests, those that went wrong, whosever trouble it was


def key(job_id: str) -> str:
    """Return the key of what is remembered of a job."""
    return f"{PREFIX}:job:{job_id}"


def add(job_id: str, ttl: float, spent: Spent) -> Spent:
    """Add one request to a job's account and to the day's sums, and return the job's account."""
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
    today = f"{PREFIX}:totals:{datetime.now(UTC):%Y-%m-%d}"
    with store.redis.pipeline(transaction=True) as pipe:
        for hash_key, expiry in ((key(job_id), ttl), (today, TOTALS_TTL)):
            for name, count in counts.items():
                pipe.hincrby(hash_key, name, count)
            pipe.hincrbyfloat(hash_key, "seconds", spent.seconds)
            pipe.pexpire(hash_key, int(expiry * 1000))
        pipe.execute()
    return account(job_id)


def forgive(job_ids: Sequence[str]) -> None:
    """Take one failure from each job's account, once: it was everybody's, and more would let it try for ever."""
    store.redis.eval(_FORGIVE, len(job_ids), *(key(job_id) for job_id in job_ids), FORGIVEN)


def account(job_id: str) -> Spent:
    """Return what a job's requests have cost so far."""
    values = cast("list[bytes | None]", store.redis.hmget(key(job_id), list(FIELDS)))
    return _spent({name: value for name, value in zip(FIELDS, values, strict=True) if value is not None})


def count_job() -> None:
    """Count a summary that was written, in the day's sums."""
    store.redis.hincrby(f"{PREFIX}:totals:{datetime.now(UTC):%Y-%m-%d}", "jobs", 1)


def close(job_id: str, *, parts: bool) -> dict[str, Any]:
    """Close a job's account; its stored `parts` go with it or are left for another try.

    Returns:
        What it came to, as the job record keeps it: `usage` {input_tokens, output_tokens}, `latency` (seconds spent
        waiting for Gemini), `tries` (requests), `cost_usd` (estimate; None: no price is known).
    """
    spent = account(job_id)
    client = store.redis
    if parts:
        client.delete(key(job_id))
    else:
        client.hdel(key(job_id), *FIELDS, FORGIVEN)
    return {
        "usage": {"input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens},
        "latency": round(spent.seconds, 3),
        "tries": spent.tries,
        "cost_usd": None if spent.cost_usd is None else round(spent.cost_usd, 6),
    }


def unwanted(job_id: str) -> bool:
    """Whether the job was deleted or cancelled, and no more is to be paid for it."""
    status = cast("bytes | None", store.redis.hget(keys.record(job_id), "status"))
    return status is not None and status.decode() in UNWANTED


def overdue(queued_at: float | None, deadline: float, more: float = 0.0) -> JobError | None:
    """Return the error of a job whose summary comes too late, now or `more` seconds later; None: there is time.

    Args:
        queued_at: when the job was queued for enrichment (Unix seconds); None: only now.
        deadline: how long it may take (seconds).
        more: seconds that it will at least take from now on.
    """
    now = time.time()
    if now + more <= (now if queued_at is None else queued_at) + deadline:
        return None
    return JobError(ErrorCode.ENRICH_DEADLINE, f"not done within {deadline:g} s")


def digest(*made_of: Any) -> str:
    """Return the name of a piece of work that is made of these."""
    # All ASCII: metadata may hold half a character, which is no UTF-8.
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]


def stored(job_id: str, name: str) -> Any:
    """Return a piece of work that an earlier try finished; None: there is none."""
    value = cast("bytes | None", store.redis.hget(key(job_id), f"part:{name}"))
    return None if value is None else json.loads(value)


def store(job_id: str, name: str, value: Any, ttl: float) -> None:
    """Keep a finished piece of work for `ttl` seconds; of a job that was deleted meanwhile no trace is left."""
    part = json.dumps(value, ensure_ascii=False)
    keys = (key(job_id), keys.record(job_id))
    store.redis.eval(_STORE, len(keys), *keys, f"part:{name}", part, int(ttl * 1000), *UNWANTED)


def drop(job_id: str, name: str) -> None:
    """Forget a stored piece of work."""
    store.redis.hdel(key(job_id), f"part:{name}")


def totals(days: int = 1) -> dict[str, Any]:
    """Return the sums of the last `days` days (UTC), today included, as `status` shows them."""
    client = store.redis
    sums: dict[bytes, float] = {}
    for back in range(days):
        day = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=back)
        for name, value in cast("dict[bytes, bytes]", client.hgetall(f"{PREFIX}:totals:{day:%Y-%m-%d}")).items():
            sums[name] = sums.get(name, 0) + float(value)
    values = {name.decode(): str(value).encode() for name, value in sums.items()}
    spent = _spent(values)
    return {
        "summaries": int(sums.get(b"jobs", 0)),
        "requests": spent.tries,
        "failures": spent.wrong,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": round(sums.get(b"micros", 0) / 1e6, 6),
        "unpriced_requests": int(sums.get(b"unpriced", 0)),
    }


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
