"""Check 8: Redis is there, lets us in, can do what the queues need, and will not lose what it is given."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Dict, List, Tuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pipeline.doctor import child, resp, shell
from pipeline.doctor.box import Box
from pipeline.doctor.findings import Finding, finding

TIMEOUT = 2.0  # seconds of each answer
WHOLE = 6.0  # seconds of all answers: a dozen, of a server half a world away
LEAST = (6, 2)  # of Redis: BLMOVE
SLOW = 50.0  # milliseconds a round trip, over which four stages' hops are felt
CLOCKS = 5.0  # seconds of difference that retries and time limits can bear
DEFAULT = "redis://127.0.0.1:6379/0"
PROBE = "{voicemill}:doctor"  # a key that is never written


def examine(box: Box) -> List[Finding]:
    """Go step by step from the address to the server's habits; the first step that fails ends it."""
    url = box.value("REDIS_URL", DEFAULT)
    try:
        place = urlsplit(url)
        port = place.port or 6379
        query = parse_qs(place.query)
    except ValueError as error:
        return [finding("redis_url_invalid", "", reason=error)]
    if place.scheme not in ("redis", "rediss", "unix"):
        return [finding("redis_url_invalid", f"scheme {place.scheme!r}", reason="it begins with redis:// or rediss://")]
    host = unquote(place.path) if place.scheme == "unix" else place.hostname or "127.0.0.1"
    shown = host if place.scheme == "unix" else f"{host}:{port}"
    if place.scheme != "unix":
        unresolved = child.resolve(host, TIMEOUT)
        if unresolved:
            return [finding("redis_unresolved", unresolved, host=host)]
    user = unquote(place.username or box.value("REDIS_USERNAME"))
    password = unquote(place.password or box.value("REDIS_PASSWORD"))
    database = (query.get("db") or [place.path.strip("/") if place.scheme != "unix" else "0"])[0]
    authority = (query.get("ssl_ca_certs") or [box.value("REDIS_CA_CERTS")])[0] if place.scheme == "rediss" else ""
    try:
        tls = _context(query, authority) if place.scheme == "rediss" else None
    except OSError as error:
        return [finding("redis_tls_refused", authority, place=shown, reason=f"{authority}: {error.strerror or error}")]
    try:
        connection = resp.Connection(host, port, tls, TIMEOUT, WHOLE)
    except ssl.SSLCertVerificationError as error:
        return [finding("redis_tls_refused", str(error), place=shown, reason=error.verify_message)]
    except ssl.SSLError as error:
        return [
            finding(
                "redis_tls_failed", str(error), place=shown, reason=getattr(error, "reason", None) or error.strerror
            )
        ]
    except socket.timeout as error:
        return [finding("redis_hangs", str(error), place=shown, seconds=f"{TIMEOUT:g}", whole=f"{WHOLE:g}")]
    except OSError as error:
        command = _start(box, host, port)
        return [finding("redis_down", str(error), place=shown, reason=error.strerror or error, command=command)]
    try:
        _enter(connection, user, password, database)
        return _judge(box, connection, user, shown, _client(place, authority, user, secret=bool(password)))
    except socket.timeout as error:
        return [finding("redis_hangs", str(error), place=shown, seconds=f"{TIMEOUT:g}", whole=f"{WHOLE:g}")]
    except resp.Refused as error:
        return [_refusal(str(error), user)]
    except (resp.NotRedis, OSError, ValueError) as error:
        return [finding("redis_not_redis", str(error), place=shown, reason=error)]
    finally:
        connection.close()


def _context(query: Dict[str, List[str]], authority: str) -> ssl.SSLContext:
    """Return the TLS context that the workers' client would make."""
    context = ssl.create_default_context(cafile=authority or None)
    if (query.get("ssl_cert_reqs") or [""])[0].lower() == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _start(box: Box, host: str, port: int) -> Tuple[str, str]:
    if host in ("127.0.0.1", "localhost", "::1"):
        up, server = box.pipeline("up"), shell.command("redis-server", "--daemonize", "yes", "--port", port)
        return f"{up} (brings a Redis of its own), or: {server}", f"{up} (Redis를 함께 실행), 또는: {server}"
    place = shell.command(host)
    return f"Start Redis on {place}, or correct REDIS_URL", f"{place}에서 Redis를 시작하거나 REDIS_URL을 고치세요"


def _client(place: SplitResult, authority: str, user: str, *, secret: bool) -> str:
    """Return the command that talks to this very server; it asks for a password instead of showing one."""
    words = ["redis-cli"]
    words += ["-s", unquote(place.path)] if place.scheme == "unix" else ["-h", place.hostname or "127.0.0.1"]
    words += ["-p", str(place.port)] if place.port else []
    if place.scheme == "rediss":
        words += ["--tls", *(["--cacert", authority] if authority else [])]
    if secret:
        words += [*(["--user", user] if user else []), "--askpass"]
    return shell.command(*words)


def _refusal(text: str, user: str, name: str = "PING") -> Finding:
    """Turn a server's error into a finding."""
    word = text.split(" ", maxsplit=1)[0]
    if word in ("NOAUTH", "WRONGPASS") or "invalid password" in text.lower() or "AUTH" in text[:8]:
        return finding("redis_login_refused", text, reason=text)
    if word == "NOPERM":
        return finding("redis_not_permitted", text, name=name, reason=text, user=user or "default")
    if word in ("LOADING", "MASTERDOWN", "BUSY"):
        return finding("redis_loading", text, reason=text)
    return finding("redis_not_redis", text, place="the address", reason=text)


def _enter(connection: resp.Connection, user: str, password: str, database: str) -> None:
    if password:
        connection.call("AUTH", *([user] if user else []), password)
    if database not in ("", "0"):
        connection.call("SELECT", database)


def _judge(box: Box, connection: resp.Connection, user: str, shown: str, client: str) -> List[Finding]:
    times = []
    for _ in range(3):
        begun = time.monotonic()
        connection.call("PING")
        times.append((time.monotonic() - begun) * 1000)
    findings: List[Finding] = []
    info = _info(connection)
    version = info.get("valkey_version") or info.get("redis_version") or "unknown"
    # Valkey tells the version of Redis that it answers like, which is the one to be judged.
    numbers = tuple(int(part) for part in info.get("redis_version", "").split(".")[:2] if part.isdigit())
    milliseconds = sorted(times)[1]
    if numbers and numbers < LEAST:
        values = {"version": version, "least": ".".join(map(str, LEAST))}
        findings.append(finding("redis_old", version, **values, command=box.pipeline("up")))
    findings += _memory(info, client) + _persistence(connection, info, client)
    if info.get("role") == "slave" and info.get("slave_read_only") == "1":
        findings.append(finding("redis_read_only", f"replica of {info.get('master_host', '?')}"))
    findings += _commands(connection, user)
    if milliseconds > SLOW:
        findings.append(finding("redis_slow", shown, milliseconds=f"{milliseconds:.0f}"))
    findings += _clock(connection)
    if any(found.status == "fail" for found in findings):
        return findings
    product = "Valkey" if "valkey_version" in info else "Redis"
    fit = finding("redis_fit", shown, product=product, version=version, milliseconds=f"{milliseconds:.1f}")
    return [fit, *findings]


def _info(connection: resp.Connection) -> Dict[str, str]:
    """Return the server's account of itself; empty where it is not told."""
    try:
        text = connection.call("INFO")
    except resp.Refused as error:
        if str(error).startswith(("NOAUTH", "LOADING")):
            raise
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _memory(info: Dict[str, str], client: str) -> List[Finding]:
    policy = info.get("maxmemory_policy", "noeviction")
    limit, used = int(info.get("maxmemory") or 0), int(info.get("used_memory") or 0)
    findings = []
    if policy != "noeviction":
        values = {"policy": policy, "command": f"{client} CONFIG SET maxmemory-policy noeviction"}
        findings.append(finding("redis_evicts", f"maxmemory {limit} bytes", **values))
    if limit and used > 0.9 * limit:
        findings.append(finding("redis_memory_full", f"{used} of {limit} bytes", percent=round(100 * used / limit)))
    return findings


def _persistence(connection: resp.Connection, info: Dict[str, str], client: str) -> List[Finding]:
    if info.get("aof_enabled", "1") == "1":
        return []
    try:
        answer: List[Any] = connection.call("CONFIG", "GET", "save") or []
    except resp.Refused:  # managed servers hide their configuration; they persist by their own means
        return []
    if len(answer) == 2 and answer[1]:
        return []
    return [finding("redis_not_persistent", "appendonly no, save ''", command=f"{client} CONFIG SET appendonly yes")]


def _commands(connection: resp.Connection, user: str) -> List[Finding]:
    """Try what the queues live on; nothing is written."""
    findings = []
    who = user or "default"
    try:
        connection.call("BLMOVE", PROBE, PROBE, "LEFT", "LEFT", "0.01")
    except resp.Refused as error:
        findings.append(finding("redis_no_blocking", str(error), user=who))
    try:
        connection.call("EVAL", "return redis.call('EXISTS', KEYS[1])", "1", PROBE)
    except resp.Refused as error:
        findings.append(finding("redis_not_permitted", str(error), name="EVAL", reason=error, user=who))
    return findings


def _clock(connection: resp.Connection) -> List[Finding]:
    try:
        seconds, micro = connection.call("TIME")
    except resp.Refused:
        return []
    skew = int(seconds) + int(micro) / 1e6 - time.time()
    if abs(skew) <= CLOCKS:
        return []
    return [finding("redis_clock", f"{skew:+.1f} s", seconds=f"{abs(skew):.0f}")]
