"""Who may call: API keys, of which only hashes are kept, and the same-origin checks that browsers need besides."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from web.problems import Problem
from web.state import state_of

COOKIE = "voicemill_key"  # set by the dashboard's sign-in form
LOCAL = "loopback"  # the caller's name if no keys are set
SAFE = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_ENTRY = re.compile(r"([A-Za-z0-9_.-]{1,64}):([0-9a-fA-F]{64})")
_bearer = HTTPBearer(auto_error=False, description="A key of API_KEYS. Not needed if API_KEYS is unset.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the name of the key."""

    name: str


def parse(text: str) -> dict[str, bytes]:
    """Parse `API_KEYS`: entries `name:hash` with the SHA-256 of the key in hex, separated by blanks or commas.

    Raises:
        ValueError: an entry is malformed, or two have the same name.
    """
    found: dict[str, bytes] = {}
    for place, entry in enumerate(text.replace(",", " ").split(), 1):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError(f"entry {place} is not name:sha256hex; create one with `voicemill web --new-key NAME`")
        if match[1] in found:
            raise ValueError(f"two entries have the name {match[1]!r}; rename one")
        found[match[1]] = bytes.fromhex(match[2])
    return found


def generate(name: str) -> tuple[str, str]:
    """Return a new key and its entry for `API_KEYS`.

    A plain SHA-256 is enough: the key has 256 random bits, so no dictionary holds it.

    Raises:
        ValueError: the name has other characters than letters, digits, `_`, `.` and `-`.
    """
    key = f"vm_{secrets.token_urlsafe(32)}"
    entry = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    if _ENTRY.fullmatch(entry) is None:
        raise ValueError("use up to 64 letters, digits, and _ . -")
    return key, entry


def match(known: Mapping[str, bytes], key: str) -> Caller | None:
    """Return whose key this is, in a time that does not depend on the known keys; None: nobody's."""
    presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    found = None
    for name, digest in known.items():
        if hmac.compare_digest(digest, presented):
            found = name
    return None if found is None else Caller(found)


def identify(request: Request) -> Caller | None:
    """Return who sent a request, by its `Authorization: Bearer` or its cookie; None: nobody known.

    Without keys every program on this machine is known. Pages of other sites in a browser on this machine are not: a
    request that may change something must come from our own page, unless it has the key in its header, which no other
    site's page knows.
    """
    known = state_of(request).keys
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and known:
        return match(known, key.strip())
    if request.method not in SAFE and not same_origin(request):
        return None
    if not known:
        return Caller(LOCAL) if names_loopback(request) else None
    return match(known, request.cookies.get(COOKIE, ""))


async def caller(
    request: Request, _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> Caller:
    """Return who sent a request: the dependency of every route that needs a key.

    Raises:
        Problem: `invalid_api_key`, `forbidden` or `rate_limit_exceeded`.
    """
    found = identify(request)
    if found is None and state_of(request).open:
        text = "without API_KEYS only programs on this machine may call, and no page of another site"
        raise Problem(403, "forbidden", text)
    if found is None:
        raise Problem(401, "invalid_api_key", "missing or unknown API key: send `Authorization: Bearer KEY`")
    await count(request, found)
    return found


async def count(request: Request, known: Caller) -> None:
    """Log a request under its caller's name, and count it.

    Raises:
        Problem: `rate_limit_exceeded`.
    """
    state = state_of(request)
    request.scope["voicemill.caller"] = known.name
    await state.limiter.count(state.redis, known.name, request.scope["voicemill.id"])


def same_origin(request: Request) -> bool:
    """Return whether a request comes from our own page, from one of `API_CORS_ORIGINS`, or from no browser at all.

    Browsers send `Sec-Fetch-Site`, older ones only `Origin`. A request with neither comes from no browser.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin in state_of(request).origins:
        return True
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def names_loopback(request: Request) -> bool:
    """Return whether `Host` names this machine. Any other name may belong to an attacker who points it here."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname in LOOPBACK
    except ValueError:
        return False
