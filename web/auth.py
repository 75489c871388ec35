"""Who may come in: API keys, of which only hashes are kept, and what a browser needs besides."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from web import limits
from web.problems import Problem

COOKIE = "voicemill_key"  # what the live page's sign-in sets
OPEN = "loopback"  # the name of whoever comes in where no keys are set
SAFE = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_ENTRY = re.compile(r"([A-Za-z0-9_.-]{1,64}):([0-9a-fA-F]{64})")
_bearer = HTTPBearer(auto_error=False, description="A key of API_KEYS; none is needed where the door is open.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: the name of the key."""

    name: str


def parse(text: str) -> dict[str, bytes]:
    """Read `API_KEYS`: pairs of a name and the SHA-256 of its key in hex, as `name:hash`, between blanks or commas.

    Raises:
        ValueError: a pair is not of this form, or a name comes twice.
    """
    found: dict[str, bytes] = {}
    for place, entry in enumerate(text.replace(",", " ").split(), 1):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError(f"entry {place} is not name:sha256hex; `python -m pipeline web --new-key NAME` makes one")
        if match[1] in found:
            raise ValueError(f"the name {match[1]!r} comes twice")
        found[match[1]] = bytes.fromhex(match[2])
    return found


def generate(name: str) -> tuple[str, str]:
    """Return a new key and its entry for `API_KEYS`.

    A plain SHA-256 is enough: the key has 256 random bits, and no dictionary holds it.

    Raises:
        ValueError: the name has other characters than letters, digits, `_`, `.` and `-`.
    """
    key = f"vm_{secrets.token_urlsafe(32)}"
    entry = f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"
    if _ENTRY.fullmatch(entry) is None:
        raise ValueError("a name takes up to 64 letters, digits, and _ . -")
    return key, entry


def match(known: dict[str, bytes], key: str) -> Caller | None:
    """Return whose key this is; the time that it takes tells nothing about the keys."""
    presented = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    found = None
    for name, digest in known.items():
        if hmac.compare_digest(digest, presented):
            found = name
    return None if found is None else Caller(found)


def identify(request: Request) -> Caller | None:
    """Return who sent a request, by its `Authorization: Bearer` or its cookie; None: nobody that is known.

    Where the door is open everybody on this machine is known. A browser's other pages are not: what could change
    something has to come from a page of ours, unless it brings its key in the header, which no foreign page knows.
    """
    known: dict[str, bytes] = request.app.state.keys
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and known:
        return match(known, key.strip())
    if request.method not in SAFE and not same_origin(request):
        return None
    if not known:
        return Caller(OPEN) if names_loopback(request) else None
    return match(known, request.cookies.get(COOKIE, ""))


async def caller(
    request: Request, _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None
) -> Caller:
    """Return who sent a request: the dependency of every route that needs a key.

    Raises:
        Problem: `invalid_api_key`, or `rate_limit_exceeded`.
    """
    found = identify(request)
    if found is None and request.app.state.open:
        text = "without API_KEYS the door is open to this machine alone, and to no page of another site"
        raise Problem(403, "forbidden", text)
    if found is None:
        raise Problem(401, "invalid_api_key", "no key, or none of ours: send `Authorization: Bearer KEY`")
    request.scope["voicemill.caller"] = found.name
    await limits.demand_rate(request, found.name)
    return found


def same_origin(request: Request) -> bool:
    """Tell whether a request comes from a page of ours, from one of `API_CORS_ORIGINS`, or from no browser at all.

    Browsers say so in `Sec-Fetch-Site`, and older ones in `Origin`; what has neither is no browser.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin in request.app.state.origins:
        return True
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def names_loopback(request: Request) -> bool:
    """Tell whether a request names this machine in `Host`: another name may be a stranger's that points here."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname in LOOPBACK
    except ValueError:
        return False
