"""Signatures of webhooks by the scheme of Standard Webhooks: how they are made and verified.

https://www.standardwebhooks.com: HMAC-SHA256 over `id.timestamp.body`, one signature for each secret. Standard library
alone, so that a receiver needs nothing else:

    from voicemill import webhooks

    event = webhooks.verify(request.body, request.headers, os.environ["WEBHOOK_SECRET"])
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets as randomness
import time
from collections.abc import Mapping
from typing import Any

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret, by the standard
VERSION = "v1"
TOLERANCE = 300.0  # seconds that a timestamp may differ from the receiver's clock, by the standard


class VerificationError(ValueError):
    """A request is not a webhook that the holder of the secret signed lately."""


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:
    """Verify a webhook's signature and return its event: `type`, `timestamp` and `data`, the job's record.

    The header `webhook-id` is the same at each attempt to deliver an event: use it to ignore a repetition.

    Args:
        body: the request's body, as it came.
        headers: the request's headers; their case does not matter.
        secret: `whsec_…`, or several between blanks or commas while one replaces the other.
        tolerance: seconds that the timestamp may differ from the clock.
        now: the clock (Unix seconds); None: this machine's.

    Raises:
        VerificationError: a header is missing, the timestamp is too old or too new, no signature matches, or the body
            is not a JSON object.
        ValueError: `secret` is not a secret.
    """
    keys = secrets(secret)
    found = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not found.get(name)]
    if missing:
        raise VerificationError(f"the header {missing[0]} is missing")
    text = found["webhook-timestamp"]
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise VerificationError("the header webhook-timestamp is not a number of seconds")
    if abs((time.time() if now is None else now) - int(text)) > tolerance:
        raise VerificationError(f"the timestamp differs from the clock by more than {tolerance:g} s")
    data = body.encode() if isinstance(body, str) else body
    expected = sign(found["webhook-id"], int(text), data, keys)["webhook-signature"].split()
    given = found["webhook-signature"].split()
    if not any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected):
        raise VerificationError("no signature matches")
    try:
        event = json.loads(data)
    except ValueError:
        raise VerificationError("the body is not JSON") from None
    if not isinstance(event, dict):
        raise VerificationError("the body is not a JSON object")
    return event


def secrets(text: str) -> list[bytes]:
    """Return the secrets in WEBHOOK_SECRET: one, or several between blanks or commas while one replaces the other.

    Raises:
        ValueError: one of them is not a secret, or there is none.
    """
    found = []
    for word in text.replace(",", " ").split():
        try:
            secret = base64.b64decode(word.removeprefix(PREFIX), validate=True)
        except ValueError:  # binascii.Error is one
            secret = b""
        if not word.startswith(PREFIX) or not SHORTEST <= len(secret) <= LONGEST:
            raise ValueError(f"it must be {PREFIX} and the base64 of {SHORTEST} to {LONGEST} bytes")
        found.append(secret)
    if not found:
        raise ValueError("it is empty")
    return found


def generate() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def sign(event_id: str, timestamp: int, body: bytes, keys: list[bytes]) -> dict[str, str]:
    """Return the three headers of a delivery; `timestamp` is that of this attempt (Unix seconds)."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"{VERSION},{base64.b64encode(digest).decode()}" for digest in digests),
    }
