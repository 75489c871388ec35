"""The one way to Redis: every part of Voicemill, a backend's process included, reaches it through `client()`.

Part of the backend's path: the standard library and redis, nothing else. Configured by `REDIS_URL` (`rediss://` for
TLS), `REDIS_USERNAME`, `REDIS_PASSWORD` and `REDIS_CA_CERTS` in the process's environment.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from voicemill.errors import JobError

DEFAULT_URL = "redis://127.0.0.1:6379/0"
NAMESPACE = "{voicemill}"  # prefix of every key; the braces put them all into one slot of a cluster
SOCKET_TIMEOUT = 5.0  # seconds; whatever blocks in Redis blocks for less
RETRIES = 3  # of one command over a lost connection, within about two seconds
BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=1)  # seconds

PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
)
# What redis-py has no exception for, and what an older Redis writes into the error of a script. UNBLOCKED is told to
# those that wait in a server as it becomes a replica.
PASSING_WORDS = frozenset(
    "BUSY CLUSTERDOWN LOADING MASTERDOWN MISCONF NOREPLICAS OOM READONLY TRYAGAIN UNBLOCKED".split()
)

_clients: dict[tuple[int, str], redis.Redis] = {}  # by process, since no connection survives a fork, and by URL
_lock = threading.Lock()


def parameters() -> tuple[str, dict[str, Any]]:
    """Return the URL and the keyword arguments that a client, synchronous or not, is made of.

    Raises:
        JobError: `invalid_settings`: `REDIS_URL` is not an address of Redis.
    """
    url = os.environ.get("REDIS_URL") or DEFAULT_URL
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "health_check_interval": 30,
        "client_name": os.environ.get("VOICEMILL_CLIENT_NAME") or "voicemill",
    }
    for option, variable in (("username", "REDIS_USERNAME"), ("password", "REDIS_PASSWORD")):
        if os.environ.get(variable):
            options[option] = os.environ[variable]
    if url.startswith("rediss://") and os.environ.get("REDIS_CA_CERTS"):
        options["ssl_ca_certs"] = os.environ["REDIS_CA_CERTS"]
    try:
        redis.ConnectionPool.from_url(url, **options).make_connection()
    except (ValueError, TypeError, redis.RedisError):  # its text may hold a piece of the password
        takes = "REDIS_URL takes redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix://PATH, and holds something else"
        raise JobError("invalid_settings", takes) from None
    return url, options


def connect(*, socket_timeout: float = SOCKET_TIMEOUT, retries: int = RETRIES) -> redis.Redis:
    """Return a new client that retries a command over a lost connection, with jitter.

    Args:
        socket_timeout: seconds without an answer after which a connection counts as lost.
        retries: of one command.

    Raises:
        JobError: `invalid_settings`: `REDIS_URL` is not an address of Redis.
    """
    url, options = parameters()
    options["socket_timeout"] = socket_timeout
    options["socket_connect_timeout"] = min(socket_timeout, SOCKET_TIMEOUT)
    retry = Retry(BACKOFF, retries)
    return redis.Redis.from_url(url, retry=retry, **options)


def client() -> redis.Redis:
    """Return this process's client for the present `REDIS_URL`; it is safe to use from any thread."""
    key = os.getpid(), os.environ.get("REDIS_URL", "")
    with _lock:
        if key not in _clients:
            _clients[key] = connect()
        return _clients[key]


def may_pass(error: redis.RedisError) -> bool:
    """Tell whether the same command may go well once Redis is back, has room, or has its replicas."""
    return isinstance(error, PASSING) or not PASSING_WORDS.isdisjoint(re.findall("[A-Z]+", str(error)))


def refusal(error: redis.RedisError) -> str | None:
    """Return why Redis does not let us in, or why we do not trust it, to be put behind "Redis"; None: neither is so.

    No waiting mends that, as it may a Redis that is away.
    """
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return f"refuses the login: {error}"
    authority = parameters()[1].get("ssl_ca_certs")
    try:
        if authority:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authority)
    except OSError as wrong:
        return f"cannot be trusted: REDIS_CA_CERTS names {authority}: {wrong.strerror or wrong}"
    if isinstance(error.__cause__ or error.__context__, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
        return f"has a certificate that is not trusted: {error}"
    return None
