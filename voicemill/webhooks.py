"""Signs what is delivered, by the scheme of Standard Webhooks, so that a receiver knows that it comes from us.

https://www.standardwebhooks.com: HMAC-SHA256 over `id.timestamp.body`, one signature for each secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets as randomness

from config.settings import SettingsError

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64  # bytes of a secret, by the standard
VERSION = "v1"


def secrets(text: str) -> list[bytes]:
    """Read WEBHOOK_SECRET: one secret, or several between blanks or commas while one takes the other's place.

    Raises:
        SettingsError: one is no such secret.
    """
    found = []
    for word in text.replace(",", " ").split():
        try:
            secret = base64.b64decode(word.removeprefix(PREFIX), validate=True)
        except ValueError:  # binascii.Error is one
            secret = b""
        if not word.startswith(PREFIX) or not SHORTEST <= len(secret) <= LONGEST:
            raise SettingsError(
                f"WEBHOOK_SECRET takes {PREFIX} and the base64 of {SHORTEST} to {LONGEST} bytes: "
                "make one with `python -m pipeline webhook secret`"
            )
        found.append(secret)
    return found


def generate() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def headers(event_id: str, timestamp: int, body: bytes, keys: list[bytes]) -> dict[str, str]:
    """Return the three headers of a delivery; `timestamp` is that of this attempt (Unix seconds)."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"{VERSION},{base64.b64encode(digest).decode()}" for digest in digests),
    }
