"""The address of Redis: URL, credentials and TLS. The client, the workers and the doctor all read it here.

Standard library alone and the grammar of Python 3.8, since the doctor imports it on a bare machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

NAMESPACE = "{voicemill}"  # prefix of every key; the braces put all of them into one slot of a cluster
DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 6379
SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True)
class Address:
    """Where Redis is and how to log in. What the URL itself says wins over `username`, `password` and `ca_certs`.

    The properties read a URL that passes `check` as redis-py does. `check` is stricter in one point: redis-py takes
    database 0 for a path that is not a number.
    """

    url: str = DEFAULT_URL
    username: Optional[str] = None
    password: Optional[str] = field(default=None, repr=False)
    ca_certs: Optional[str] = None  # file of the CA that signed a rediss:// certificate

    def __repr__(self) -> str:
        return f"Address({self.masked!r})"

    def check(self) -> None:
        """Check that the URL is one of Redis.

        Raises:
            ValueError: it is not. The message quotes no part of the URL, which may be a piece of the password.
        """
        scheme, separator, _ = self.url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise ValueError("it must begin with redis://, rediss:// or unix://")
        try:
            place = self._place
        except ValueError:
            raise ValueError("the host is not a name or an IP address") from None
        try:
            _ = place.port
        except ValueError:
            raise ValueError(
                "the port is not a number from 0 to 65535; in a password, write / as %2F, ? as %3F and # as %23"
            ) from None
        if self._database and not self._database.isdecimal():
            raise ValueError("the database is not a number")

    @property
    def masked(self) -> str:
        """The URL without its password and query, fit to be shown."""
        return masked(self.url)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._place.scheme == "rediss"

    @property
    def socket(self) -> str:
        """The path of a Unix socket; empty: `host` and `port` count."""
        return unquote(self._place.path) if self._place.scheme == "unix" else ""

    @property
    def host(self) -> str:
        """The host's name or IP address."""
        return unquote(self._place.hostname or DEFAULT_HOST)

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._place.port or DEFAULT_PORT

    @property
    def location(self) -> str:
        """The socket, or host and port, fit to be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.socket or f"{host}:{self.port}"

    @property
    def database(self) -> int:
        """The number of the database; 0 where the URL names none."""
        return int(self._database or 0)

    @property
    def login(self) -> str:
        """The user name; empty: Redis's default user."""
        return unquote(self._place.username or "") or self._parameter("username") or self.username or ""

    @property
    def secret(self) -> str:
        """The password; empty: none."""
        return unquote(self._place.password or "") or self._parameter("password") or self.password or ""

    @property
    def authority(self) -> str:
        """The CA file of a rediss:// address; empty: the system's CAs."""
        return (self._parameter("ssl_ca_certs") or self.ca_certs or "") if self.tls else ""

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate is verified."""
        return self._parameter("ssl_cert_reqs").lower() != "none"

    @property
    def verifies_host(self) -> bool:
        """Whether the certificate has to name the host."""
        return self.verifies and self._parameter("ssl_check_hostname").lower() not in ("0", "f", "false", "n", "no")

    @property
    def certificate(self) -> Tuple[str, str]:
        """The files of the client's certificate and of its key; empty: none, or the key is in the first file."""
        return self._parameter("ssl_certfile"), self._parameter("ssl_keyfile")

    @property
    def _place(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def _database(self) -> str:
        path = "" if self.socket else unquote(self._place.path).strip("/")
        return self._parameter("db") or path

    def _parameter(self, name: str) -> str:
        """Return a parameter of the URL's query; empty: it is not there."""
        return parse_qs(self._place.query).get(name, [""])[0]


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
    head, _, query = url.partition("?")
    scheme, separator, rest = head.partition("://")
    if not separator:  # not a URL, so everything before the last @ may be a password
        return f"{'********@' * ('@' in head)}{head.rpartition('@')[2]}"
    if "@" in query and "@" not in rest:  # the question mark may be one of the password's, which should be %3F
        return f"{scheme}{separator}********"
    credentials, at, place = rest.rpartition("@")
    user, colon, _password = credentials.partition(":")
    return f"{scheme}{separator}{user}{colon and ':********'}{at}{place}" if at else head
