"""Lets requests through to Gemini, over all workers at once: within the minute's limits, hardly any while it is down.

Who may not go is told when to come back, and waits in the queue, not in a thread. Three things can be in the way: the
limits (`GEMINI_REQUESTS_PER_MINUTE`, `GEMINI_TOKENS_PER_MINUTE`), taken in turn, one place a job, so that a long
recording's many parts do not hold up short messages; the breaker, which after some failures in a row lets one request
through every ten seconds to see whether Gemini is back; and the pause while the day's quota is used up.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from config.settings import Settings
from pipeline import connection
from pipeline.errors import JobError

WINDOW = 61.0  # seconds: a minute, and a second by which requests may be late on their way to Gemini
FAILURES = (
    5  # in a row; at one failure in seven, as on a bad day, chance alone opens the breaker once in 20,000 requests
)
PROBE = 10.0  # seconds between two requests while the breaker is open
MEMORY = 600.0  # seconds without a failure after which an open breaker is forgotten
LATE = 2.0  # seconds that a job may come late to its turn before others go first
KEPT = 900.0  # seconds that the place of a job that does not come is kept
PATIENCE = 60.0  # longest time that a job stays away beyond the next probe (seconds)
PAUSE = 600.0  # seconds between two looks whether the day's quota has returned, as it does early on a paid plan

_ENTER = (Path(__file__).parent / "gate.lua").read_text(encoding="utf-8")
_OUTCOME = (Path(__file__).parent / "outcome.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Passage:
    """Leave to send one request. `probe`: Gemini was down, and this request finds out whether it still is."""

    request: str
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
    prefix: str = f"{connection.NAMESPACE}:enrich"

    def enter(self, job_id: str, tokens: int) -> Passage:
        """Return leave to send a request of about so many input tokens.

        Raises:
            JobError: not now; `retry_after` says when to come back.
        """
        request = secrets.token_hex(8)
        keys = [self._key(name) for name in ("breaker", "probe", "pause", "log", "waiting")]
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
        reply = cast("list[Any]", connection.client().eval(_ENTER, len(keys), *keys, *arguments))
        verdict, wait, outage = reply[0].decode(), reply[1] / 1000, reply[2] / 1000
        if verdict == "limited":
            raise JobError("enrich_rate_limited", "waits for its turn within the limits a minute", retry_after=wait)
        if verdict == "open":
            # The longer it lasts, the longer jobs stay away: an hour of it must not keep the queue busy.
            away = wait + random.uniform(0, min(PATIENCE, outage / 4))  # noqa: S311 - it spreads load, no more
            raise JobError("enrich_unavailable", "Gemini is out of service; waits for its return", retry_after=away)
        if verdict == "paused":
            raise JobError("enrich_quota_exhausted", "the day's quota of Gemini is used up", retry_after=wait)
        return Passage(request, tokens, int(reply[3]), probe=verdict == "probe")

    def succeeded(self, passage: Passage, tokens: int | None = None) -> None:
        """Note that Gemini answered, be it with a refusal; `tokens` is what the input really was."""
        limited = self.requests_per_window or self.tokens_per_window
        true = f"{passage.request}:{tokens}" if tokens and limited else ""
        self._note("answered", f"{passage.request}:{passage.tokens}", true)

    def failed(self, passage: Passage, *, unreachable: bool) -> None:
        """Note a sign of an outage; an address that cannot be reached opens the breaker at once."""
        weight = FAILURES if unreachable else 1
        self._note("failed", passage.at, weight, FAILURES, _ms(self.probe), _ms(MEMORY))

    def pause(self, seconds: float) -> float:
        """Let nothing through until the day's quota may have returned; return the seconds until the next look."""
        pause = min(seconds, PAUSE)
        connection.client().set(self._key("pause"), "quota", px=max(1, _ms(pause)))
        return pause

    def _note(self, *arguments: str | int) -> None:
        keys = [self._key(name) for name in ("breaker", "probe", "log")]
        connection.client().eval(_OUTCOME, len(keys), *keys, *arguments)

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{name}"


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def of_settings(settings: Settings) -> Gate:
    """Return the gate with the operator's limits."""
    return Gate(settings.gemini_requests_per_minute, settings.gemini_tokens_per_minute)
