"""Rate limiter and circuit breaker for requests to a provider, shared by all workers through Redis.

A job that may not send yet is given the time after which to come back, and waits in the queue rather than in a thread.
For all models together there are the operator's limits of requests and tokens per minute, granted in turn with one
place for each job, so that neither the many parts of a long recording nor the size of a request matters. For each model
there are three more:

- The circuit breaker. After a failure only a few requests are in flight until their fate is known; after several
  failures in a row one probe goes every ten seconds, later every thirty.
- The hold, while the provider's own rate limit is exceeded.
- The pause, while its quota is used up.

After a hold two requests are in flight at first, after a pause one, and one more with each answer.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from voicemill.errors import ErrorCode, JobError
from voicemill.store import Store, keys, scripts

WINDOW = 61.0  # seconds: a minute, and a second by which requests may reach the provider late
FAILURES_TO_OPEN = 4  # in a row, with no success in flight; at one failure in seven, chance takes 2,800 requests
RATE_LIMITS_TO_HOLD = 4  # jobs in a row that were rate-limited; at three in ten, chance takes 170 requests
RECOVERED = 16  # requests in flight above which no request is held back any more
PROBE_INTERVAL = 10.0  # seconds between probes at first; a tenth more after each failure, up to threefold
BREAKER_TTL = 600.0  # seconds without a failure after which an open breaker closes
GRACE = 2.0  # seconds that a job may be late for its turn before others go first
TURN_TTL = 900.0  # seconds that the place of a job that does not return is kept
# A job that waits for a request in flight checks again after as long as that has taken so far, within these bounds
# (seconds): an answer is soon followed by the next request, and one that does not come costs few checks.
MIN_RECHECK = 0.3
MAX_RECHECK = 5.0
MAX_SPREAD = 60.0  # seconds that a job stays away beyond the next probe, at most
QUOTA_RECHECK = 600.0  # seconds between checks for renewed quota, which a paid plan gets early

_ACQUIRE = scripts.load(Path(__file__).with_name("limiter.lua"))
_OUTCOME = scripts.load(Path(__file__).with_name("outcome.lua"))


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to send one request."""

    request: str
    model: str
    tokens: int
    at: int  # when it was given, in milliseconds of Redis's clock
    probe: bool  # the breaker is open, and this request finds out whether the provider is back


@dataclass(frozen=True, slots=True)
class RequestLimiter:
    """The limits, and the store of the state that all workers share."""

    store: Store
    requests_per_window: int  # 0: unlimited
    tokens_per_window: int  # 0: unlimited
    window: float = WINDOW
    probe_interval: float = PROBE_INTERVAL
    failures_to_open: int = FAILURES_TO_OPEN
    grace: float = GRACE
    min_recheck: float = MIN_RECHECK
    max_spread: float = MAX_SPREAD
    uniform: Callable[[float, float], float] = random.uniform  # spreads waits, so that not all jobs return at once
    prefix: str = keys.ENRICH

    def acquire(self, job_id: str, tokens: int, model: str = "") -> Permit:
        """Return a permit to send a model one request of about so many input tokens.

        Raises:
            JobError: not yet; `retry_after` says when to try again.
        """
        request = secrets.token_hex(8)
        touched = self.keys(model, "breaker", "probe", "pause", "hold", "flight")
        touched += self.keys("", "log", "waiting", "sizes", "turn")
        arguments: list[str | int] = [
            job_id,
            request,
            tokens,
            self.requests_per_window,
            self.tokens_per_window,
            _ms(self.window),
            self.failures_to_open,
            _ms(self.probe_interval),
            _ms(self.grace),
            _ms(TURN_TTL),
        ]
        reply = cast("list[Any]", _ACQUIRE.run(self.store.redis, touched, *arguments))
        verdict = reply[0].decode()
        if verdict in ("go", "probe"):
            return Permit(request, model, tokens, int(reply[3]), probe=verdict == "probe")
        raise self._rejection(verdict, reply[1] / 1000, reply[2])

    def record_success(self, permit: Permit, tokens: int | None = None) -> None:
        """Record an answer, an error about the request itself included; `tokens` is the true size of the input."""
        limited = self.requests_per_window or self.tokens_per_window
        true = f"{permit.request}:{tokens}" if tokens and limited else ""
        self._record(permit, "answered", f"{permit.request}:{permit.tokens}", true, RECOVERED)

    def record_count(self, permit: Permit) -> None:
        """Record a count of tokens, which closes no breaker: a provider can count while it cannot generate."""
        self._record(permit, "counted")

    def record_rate_limit(self, permit: Permit, job_id: str, seconds: float | None) -> list[str]:
        """Record that the provider rate-limited a request.

        Args:
            permit: of the request.
            job_id: whose request it was.
            seconds: for which the provider wants no requests; None: it does not say.

        Returns:
            The jobs that this proves not to be the cause: once enough in a row were limited all of those, then each
            further one; until then none.
        """
        hold = min(seconds or self.probe_interval, QUOTA_RECHECK)
        innocent = self._record(permit, "rate_limited", job_id, max(1, _ms(hold)), RATE_LIMITS_TO_HOLD)
        return [job.decode() for job in innocent]

    def record_failure(self, permit: Permit, *, unreachable: bool) -> None:
        """Record a sign of an outage; an unreachable address opens the breaker at once."""
        weight = self.failures_to_open if unreachable and not permit.probe else 1
        opening = (weight, self.failures_to_open, _ms(self.probe_interval), _ms(BREAKER_TTL))
        self._record(permit, "failed", permit.at, *opening)

    def pause(self, seconds: float | None, model: str = "") -> float:
        """Stop all requests until the quota may be renewed, in `seconds` if known; return the seconds to wait."""
        pause = min(seconds or QUOTA_RECHECK, QUOTA_RECHECK)
        breaker, key = self.keys(model, "breaker", "pause")
        with self.store.redis.pipeline(transaction=True) as pipe:
            pipe.set(key, "quota", px=max(1, _ms(pause)))
            pipe.hset(breaker, "cap", 1)
            pipe.pexpire(breaker, _ms(pause + BREAKER_TTL))
            pipe.execute()
        return pause

    def keys(self, model: str, *names: str) -> list[str]:
        """Return the Redis keys of a model's state; an empty model: of the state that all models share."""
        return [f"{self.prefix}:{name}:{model}" if model else f"{self.prefix}:{name}" for name in names]

    def _record(self, permit: Permit, *arguments: str | int) -> list[bytes]:
        touched = [*self.keys(permit.model, "breaker", "probe", "hold", "flight", "refused"), *self.keys("", "log")]
        return cast("list[bytes]", _OUTCOME.run(self.store.redis, touched, permit.request, *arguments))

    def _rejection(self, verdict: str, wait: float, more: int) -> JobError:
        """Return the error of a job without a permit: what limiter.lua returned, with `wait` in seconds."""
        if verdict == "busy":
            return JobError(
                ErrorCode.ENRICH_UNAVAILABLE if more else ErrorCode.ENRICH_RATE_LIMITED,
                "waiting for a request in flight to show whether the provider answers",
                retry_after=min(MAX_RECHECK, max(self.min_recheck, wait)) * self.uniform(0.5, 1.5),
            )
        if verdict == "open":
            # Jobs return less often the longer an outage lasts: after an hour they must not keep the queue busy.
            away = wait + self.uniform(0, min(self.max_spread, more / 1000 / 4))
            return JobError(ErrorCode.ENRICH_UNAVAILABLE, "the provider is out of service", retry_after=away)
        away = wait + self.uniform(0, min(self.max_spread, wait / 4))
        if verdict == "held":
            return JobError(ErrorCode.ENRICH_RATE_LIMITED, "the provider's rate limit is exceeded", retry_after=away)
        if verdict == "paused":
            return JobError(ErrorCode.ENRICH_QUOTA_EXHAUSTED, "the provider's quota is used up", retry_after=away)
        return JobError(
            ErrorCode.ENRICH_RATE_LIMITED, "waiting for a turn within the limits per minute", retry_after=wait
        )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
