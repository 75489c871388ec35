"""Lets requests through to Gemini, over all workers at once: within the minute's limits, hardly any while it is down.

Who may not go is told when to come back, and waits in the queue, not in a thread. Of all models together there are the
operator's limits (`GEMINI_REQUESTS_PER_MINUTE`, `GEMINI_TOKENS_PER_MINUTE`), taken in turn, one place a job, so that
neither a long recording's many parts nor a large request's size decides. Of each model: the breaker, which after a
failure lets few be on their way before it is known how those fare, and after some in a row one request every ten
seconds, later every thirty; the hold, where Gemini's own limit is reached; and the pause while the day's quota is
used up. After a hold requests go two at a time at first, after a pause one, and one more with each that is answered.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from config.settings import Settings
from voicemill.errors import ErrorCode, JobError
from voicemill.store import keys

WINDOW = 61.0  # seconds: a minute, and a second by which requests may be late on their way to Gemini
FAILURES = 4  # in a row, all others on their way having failed, too: at one in seven chance does it in 2,800 requests
REFUSED = 4  # jobs in a row beyond Gemini's own limit; at three in ten, a bad day, chance does it in 170 requests
RECOVERED = 16  # requests on their way at once from which on none is held back any more
PROBE = 10.0  # seconds between two requests when the breaker opens; a tenth more after each that fails, up to threefold
MEMORY = 600.0  # seconds without a failure after which an open breaker is forgotten
LATE = 2.0  # seconds that a job may come late to its turn before others go first
KEPT = 900.0  # seconds that the place of a job that does not come is kept
# Seconds, about, until one on its way may have told how Gemini is: as long again as it has been for, between these, so
# that an answer is soon followed by the next, and one that does not come costs few looks.
SOON = 0.3
LONG = 5.0
PATIENCE = 60.0  # longest time that a job stays away beyond the next probe (seconds)
PAUSE = 600.0  # seconds between two looks whether the day's quota has returned, as it does early on a paid plan

_ENTER = (Path(__file__).parent / "gate.lua").read_text(encoding="utf-8")
_OUTCOME = (Path(__file__).parent / "outcome.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Passage:
    """Leave to send one request. `probe`: Gemini was down, and this request finds out whether it still is."""

    request: str
    model: str
    tokens: int
    at: int  # when, in milliseconds of Redis's clock
    probe: bool


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits, and where the state that all workers share lies."""

    requests_per_window: int
    tokens_per_window: int
    window: float = WINDOW  # seconds
    probe: float = PROBE  # seconds
    prefix: str = f"{keys.NAMESPACE}:enrich"

    def enter(self, job_id: str, tokens: int, model: str = "") -> Passage:
        """Return leave to send a model one request of about so many input tokens.

        Raises:
            JobError: not now; `retry_after` says when to come back.
        """
        request = secrets.token_hex(8)
        keys = self._keys(model, "breaker", "probe", "pause", "hold", "flight")
        keys += self._keys("", "log", "waiting", "sizes", "turn")
        arguments: list[str | int] = [
            job_id,
            request,
            tokens,
            self.requests_per_window,
            self.tokens_per_window,
            _ms(self.window),
            FAILURES,
            _ms(self.probe),
            _ms(LATE),
            _ms(KEPT),
        ]
        reply = cast("list[Any]", store.redis.eval(_ENTER, len(keys), *keys, *arguments))
        verdict = reply[0].decode()
        if verdict in ("go", "probe"):
            return Passage(request, model, tokens, int(reply[3]), probe=verdict == "probe")
        raise _not_now(verdict, reply[1] / 1000, reply[2])

    def succeeded(self, passage: Passage, tokens: int | None = None) -> None:
        """Note that Gemini answered, be it with a refusal; `tokens` is what the input really was."""
        limited = self.requests_per_window or self.tokens_per_window
        true = f"{passage.request}:{tokens}" if tokens and limited else ""
        self._note(passage, "answered", f"{passage.request}:{passage.tokens}", true, RECOVERED)

    def counted(self, passage: Passage) -> None:
        """Note that Gemini counted tokens, as it can while it writes nothing: that closes no breaker."""
        self._note(passage, "counted")

    def refused(self, passage: Passage, job_id: str, seconds: float | None) -> list[str]:
        """Note that a request went beyond Gemini's own limit; return the jobs that this shows to be without fault.

        None, until so many in a row were refused that all are meant; then those, and afterwards each as it is refused.
        `seconds` is how long Gemini wants to hear nothing (None: it does not say).
        """
        hold = min(seconds or self.probe, PAUSE)
        return [job.decode() for job in self._note(passage, "refused", job_id, max(1, _ms(hold)), REFUSED)]

    def failed(self, passage: Passage, *, unreachable: bool) -> None:
        """Note a sign of an outage; an address that cannot be reached opens the breaker at once."""
        weight = FAILURES if unreachable and not passage.probe else 1
        self._note(passage, "failed", passage.at, weight, FAILURES, _ms(self.probe), _ms(MEMORY))

    def pause(self, seconds: float, model: str = "") -> float:
        """Let nothing through until the day's quota may have returned; return the seconds until the next look."""
        pause = min(seconds, PAUSE)
        breaker, key = self._keys(model, "breaker", "pause")
        with store.redis.pipeline(transaction=True) as pipe:
            pipe.set(key, "quota", px=max(1, _ms(pause)))
            pipe.hset(breaker, "cap", 1)
            pipe.pexpire(breaker, _ms(pause + MEMORY))
            pipe.execute()
        return pause

    def _note(self, passage: Passage, *arguments: str | int) -> list[bytes]:
        keys = [*self._keys(passage.model, "breaker", "probe", "hold", "flight", "refused"), *self._keys("", "log")]
        return cast("list[bytes]", store.redis.eval(_OUTCOME, len(keys), *keys, passage.request, *arguments))

    def _keys(self, model: str, *names: str) -> list[str]:
        return [f"{self.prefix}:{name}:{model}" if model else f"{self.prefix}:{name}" for name in names]


def _not_now(verdict: str, wait: float, more: int) -> JobError:
    """Return the error of a job that may not send; the words of gate.lua, `wait` in seconds."""
    spread = random.uniform
    if verdict == "busy":
        code = "enrich_unavailable" if more else "enrich_rate_limited"
        return JobError(
            code,
            "waits for one request to tell whether Gemini answers",
            retry_after=min(LONG, max(SOON, wait)) * spread(0.5, 1.5),
        )
    if verdict == "open":
        # The longer it lasts, the longer jobs stay away: an hour of it must not keep the queue busy.
        away = wait + spread(0, min(PATIENCE, more / 1000 / 4))
        return JobError(
            ErrorCode.ENRICH_UNAVAILABLE, "Gemini is out of service; waits for its return", retry_after=away
        )
    away = wait + spread(0, min(PATIENCE, wait / 4))  # so that not all come back at once
    if verdict == "held":
        return JobError(
            ErrorCode.ENRICH_RATE_LIMITED, "Gemini's limit is reached; waits until it takes more", retry_after=away
        )
    if verdict == "paused":
        return JobError(ErrorCode.ENRICH_QUOTA_EXHAUSTED, "the day's quota of Gemini is used up", retry_after=away)
    return JobError(ErrorCode.ENRICH_RATE_LIMITED, "waits for its turn within the limits a minute", retry_after=wait)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def of_settings(settings: Settings) -> Gate:
    """Return the gate with the operator's limits."""
    return Gate(settings.gemini_requests_per_minute, settings.gemini_tokens_per_minute)
