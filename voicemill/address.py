"""The address of Redis: URL, credentials and TLS, as client, workers and doctor read them.

Standard library alone and the grammar of Python 3.8, since the doctor reads it on a bare machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Mapping, Optional
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_PORT = 6379
SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True)
class Address:
    """Where Redis is and how to log in. What the URL itself says wins over `username`, `password` and `ca_certs`."""

    url: str = DEFAULT_URL
    username: Optional[str] = None
    password: Optional[str] = field(default=None, repr=False)
    ca_certs: Optional[str] = None  # file of the CA that signed a rediss:// certificate

    def __repr__(self) -> str:
        return f"Address({self.masked!r})"

    @property
    def masked(self) -> str:
        """The URL without its password and query, fit to be shown."""
        return masked(self.url)

    @property
    def login(self) -> str:
        """The user name; empty: Redis's default user."""
        return unquote(urlsplit(self.url).username or self.username or "")

    @property
    def secret(self) -> str:
        """The password; empty: none."""
        return unquote(urlsplit(self.url).password or self.password or "")

    @property
    def authority(self) -> str:
        """The CA file of a rediss:// address; empty: the system's CAs."""
        place = urlsplit(self.url)
        if place.scheme != "rediss":
            return ""
        return (parse_qs(place.query).get("ssl_ca_certs") or [self.ca_certs or ""])[0]


def from_environment(environ: Optional[Mapping[str, str]] = None) -> Address:
    """Return the address that `REDIS_URL`, `REDIS_USERNAME`, `REDIS_PASSWORD` and `REDIS_CA_CERTS` describe.

    Args:
        environ: the variables; None: the process's own.
    """
    found = os.environ if environ is None else environ
    return Address(
        url=found.get("REDIS_URL") or DEFAULT_URL,
        username=found.get("REDIS_USERNAME") or None,
        password=found.get("REDIS_PASSWORD") or None,
        ca_certs=found.get("REDIS_CA_CERTS") or None,
    )


def masked(url: str) -> str:
    """Return `url` without its password and its query, fit to be shown."""
    head, _, _query = url.partition("?")
    scheme, separator, rest = head.partition("://")
    if not separator:  # not a URL, so everything before the last @ may be a password
        return f"{'********@' * ('@' in head)}{head.rpartition('@')[2]}"
    credentials, at, place = rest.rpartition("@")
    user, colon, _password = credentials.partition(":")
    return f"{scheme}{separator}{user}{colon and ':********'}{at}{place}" if at else head
