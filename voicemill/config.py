"""What a client has to know: where Redis is, and the limits that backends and workers share."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from voicemill.address import Address, from_environment
from voicemill.errors import ErrorCode, JobError

TEXTS = ("handoff_url", "handoff_key", "webhook_url")
NUMBERS: dict[str, type[float | int]] = {
    "result_ttl": float,
    "handoff_ttl": float,
    "handoff_url_from": int,
    "max_source_bytes": int,
    "max_handoff_bytes": int,
    "max_queued": int,
}


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The configuration of one client. The fields have the names of the environment variables in small letters.

    Backends and workers need the same values of `handoff_key` and `handoff_url`.
    """

    address: Address = field(default_factory=Address)
    result_ttl: float = 7 * 86400  # seconds that a record is kept after the job's end
    handoff_ttl: float = 86400  # seconds that audio waits for its turn, and an upload for decode
    handoff_url: str | None = None  # where long audio waits instead of in Redis: any URL that fsspec opens
    handoff_url_from: int = 16 * 1024**2  # bytes from which audio goes there
    handoff_key: str | None = field(default=None, repr=False)  # Fernet keys that encrypt waiting audio
    max_source_bytes: int = 512 * 1024**2  # of an upload
    max_handoff_bytes: int = 8 * 1024**3  # of all audio in Redis
    max_queued: int = 100_000  # messages of decode
    webhook_url: str | None = field(default=None, repr=False)  # receiver of jobs without a callback_url
    name: str = "voicemill"  # of the connections, in `CLIENT LIST`

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> ClientConfig:
        """Return the configuration that the environment describes.

        Args:
            environ: the variables; None: the process's own.

        Raises:
            JobError: `invalid_settings`: a variable that takes a number has something else.
        """
        found = os.environ if environ is None else environ
        variables = {name: found.get(name.upper(), "").strip() for name in (*TEXTS, *NUMBERS)}
        given = {name: value for name, value in variables.items() if value}
        chosen: dict[str, Any] = {name: value for name, value in given.items() if name in TEXTS}
        for name, kind in NUMBERS.items():
            if name in given:
                chosen[name] = _number(kind, name.upper(), given[name])
        if found.get("VOICEMILL_CLIENT_NAME"):
            chosen["name"] = found["VOICEMILL_CLIENT_NAME"]
        return cls(address=from_environment(found), **chosen)

    @property
    def result_ttl_ms(self) -> int:
        """How long a record is kept after the job's end (milliseconds)."""
        return int(self.result_ttl * 1000)


def _number(kind: type[float | int], variable: str, text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf or (kind is int and not value.is_integer()):
        takes = "a whole number" if kind is int else "a number"
        raise JobError(ErrorCode.INVALID_SETTINGS, f"{variable} is {text!r}; it must be {takes} of at least 1")
    return kind(value)
