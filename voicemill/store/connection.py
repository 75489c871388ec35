"""Connections to Redis: how they are made, and what their errors mean."""

from __future__ import annotations

import re
import ssl
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from voicemill.address import Address
from voicemill.config import ClientConfig
from voicemill.errors import ErrorCode, JobError

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
# What redis-py has no exception for, and what an older Redis writes into the error of a script. UNBLOCKED is sent to
# those that wait in a server as it becomes a replica.
PASSING_WORDS = frozenset(
    "BUSY CLUSTERDOWN LOADING MASTERDOWN MISCONF NOREPLICAS OOM READONLY TRYAGAIN UNBLOCKED".split()
)


def parameters(config: ClientConfig) -> tuple[str, dict[str, Any]]:
    """Return the URL and the keyword arguments of a client, synchronous or not.

    Raises:
        JobError: `invalid_settings`: the address is not one of Redis.
    """
    address = config.address
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "health_check_interval": 30,
        "client_name": config.name,
    }
    if address.username:
        options["username"] = address.username
    if address.password:
        options["password"] = address.password
    try:
        address.check()
        if address.authority:
            options["ssl_ca_certs"] = address.authority
        redis.ConnectionPool.from_url(address.url, **options).make_connection()
    except (ValueError, TypeError, redis.RedisError):  # its text may hold a piece of the password
        takes = "REDIS_URL must be redis://HOST:PORT/NUMBER, rediss:// for TLS, or unix://PATH"
        raise JobError(ErrorCode.INVALID_SETTINGS, takes) from None
    return address.url, options


def connect(config: ClientConfig, *, socket_timeout: float = SOCKET_TIMEOUT, retries: int = RETRIES) -> redis.Redis:
    """Return a new client that retries a command over a lost connection, with jitter.

    Args:
        config: where Redis is.
        socket_timeout: seconds without an answer after which a connection counts as lost.
        retries: of one command.

    Raises:
        JobError: `invalid_settings`: the address is not one of Redis.
    """
    url, options = parameters(config)
    options["socket_timeout"] = socket_timeout
    options["socket_connect_timeout"] = min(socket_timeout, SOCKET_TIMEOUT)
    return redis.Redis.from_url(url, retry=Retry(BACKOFF, retries), **options)


def may_pass(error: redis.RedisError) -> bool:
    """Return whether the same command may succeed once Redis is back, has room, or has its replicas."""
    return isinstance(error, PASSING) or not PASSING_WORDS.isdisjoint(re.findall("[A-Z]+", str(error)))


def refusal(error: redis.RedisError, address: Address) -> str | None:
    """Return why Redis rejects us, or why we do not trust it, to be put behind "Redis"; None: neither is so.

    Waiting does not fix that, as it may for a Redis that is away.
    """
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return f"rejects the login: {error}"
    authority = address.authority
    try:
        if authority:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(authority)
    except OSError as wrong:
        return f"cannot be trusted: REDIS_CA_CERTS names {authority}: {wrong.strerror or wrong}"
    if isinstance(error.__cause__ or error.__context__, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
        return f"has a certificate that is not trusted: {error}"
    return None
