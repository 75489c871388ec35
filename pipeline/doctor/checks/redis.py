"""Check 8: Redis is reachable, accepts the login, supports what the queues need and keeps its data."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any, Dict, List, Tuple

from pipeline.doctor import child, resp, shell
from pipeline.doctor.findings import Finding, finding
from pipeline.doctor.machine import Machine
from voicemill.address import NAMESPACE, Address, from_environment

TIMEOUT = 2.0  # seconds for each answer
TOTAL_TIMEOUT = 6.0  # seconds for all answers: a dozen, of a server half a world away
MIN_VERSION = (6, 2)  # of Redis: BLMOVE
SLOW_ROUND_TRIP = 50.0  # milliseconds, over which the four hops of a message add up to a noticeable delay
MAX_CLOCK_SKEW = 5.0  # seconds that retries and time limits tolerate
PROBE = f"{NAMESPACE}:doctor"  # a key that is never written


def examine(machine: Machine) -> List[Finding]:
    """Check the address, the connection, the login and then the server; stop at the first step that fails."""
    address = from_environment(machine.variables)
    try:
        address.check()
    except ValueError as error:
        return [finding("redis_url_invalid", address.masked, reason=error)]
    shown = address.location
    if not address.socket:
        unresolved = child.resolve(address.host, TIMEOUT)
        if unresolved:
            return [finding("redis_unresolved", unresolved, host=address.host)]
    try:
        tls = _context(address) if address.tls else None
    except OSError as error:
        file = error.filename or address.authority
        return [finding("redis_tls_refused", file, place=shown, reason=f"{file}: {error.strerror or error}")]
    try:
        connection = resp.Connection(address.socket or address.host, address.port, tls, TIMEOUT, TOTAL_TIMEOUT)
    except ssl.SSLCertVerificationError as error:
        return [finding("redis_tls_refused", str(error), place=shown, reason=error.verify_message)]
    except ssl.SSLError as error:
        reason = getattr(error, "reason", None) or error.strerror
        return [finding("redis_tls_failed", str(error), place=shown, reason=reason)]
    except socket.timeout as error:
        return [_hangs(shown, error)]
    except OSError as error:
        command = _start(machine, address)
        return [finding("redis_down", str(error), place=shown, reason=error.strerror or error, command=command)]
    try:
        _log_in(connection, address)
        return _judge(machine, connection, address)
    except socket.timeout as error:
        return [_hangs(shown, error)]
    except resp.ErrorReply as error:
        return [_rejection(str(error), address)]
    except (resp.ProtocolError, OSError, ValueError) as error:
        return [finding("redis_not_redis", str(error), place=shown, reason=error)]
    finally:
        connection.close()


def _context(address: Address) -> ssl.SSLContext:
    """Return the TLS context that the workers' client would use."""
    context = ssl.create_default_context(cafile=address.authority or None)
    context.check_hostname = address.verifies_host
    if not address.verifies:
        context.verify_mode = ssl.CERT_NONE
    certificate, key = address.certificate
    if certificate:
        try:
            context.load_cert_chain(certificate, key or None)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), certificate) from None
    return context


def _hangs(shown: str, error: OSError) -> Finding:
    limits = {"seconds": f"{TIMEOUT:g}", "whole": f"{TOTAL_TIMEOUT:g}"}
    return finding("redis_hangs", str(error), place=shown, **limits)


def _start(machine: Machine, address: Address) -> Tuple[str, str]:
    """Return how to start the server: the command where it belongs on this machine."""
    if not address.socket and address.host in ("127.0.0.1", "localhost", "::1"):
        up = machine.pipeline("up")
        server = shell.command("redis-server", "--daemonize", "yes", "--port", address.port)
        return f"{up} (starts an embedded Redis), or: {server}", f"{up} (내장 Redis를 함께 시작), 또는: {server}"
    place = shell.command(address.socket or address.host)
    return f"Start Redis on {place}, or correct REDIS_URL", f"{place}에서 Redis를 시작하거나 REDIS_URL을 수정하세요"


def client_command(address: Address) -> str:
    """Return the redis-cli command for this server; it prompts for the password instead of showing it."""
    words = ["redis-cli"]
    words += ["-s", address.socket] if address.socket else ["-h", address.host, "-p", str(address.port)]
    if address.tls:
        words += ["--tls", *(["--cacert", address.authority] if address.authority else [])]
    if address.secret:
        words += [*(["--user", address.login] if address.login else []), "--askpass"]
    return shell.command(*words)


def _rejection(text: str, address: Address) -> Finding:
    """Return the finding for an error reply of the server."""
    word = text.split(" ", maxsplit=1)[0]
    if word in ("NOAUTH", "WRONGPASS") or "invalid password" in text.lower() or "AUTH" in text[:8]:
        return finding("redis_login_refused", text, reason=text)
    if word == "NOPERM":
        return finding("redis_not_permitted", text, name="PING", reason=text, user=address.login or "default")
    if word in ("LOADING", "MASTERDOWN", "BUSY"):
        return finding("redis_loading", text, reason=text)
    return finding("redis_not_redis", text, place=address.location, reason=text)


def _log_in(connection: resp.Connection, address: Address) -> None:
    if address.secret:
        connection.call("AUTH", *([address.login] if address.login else []), address.secret)
    if address.database:
        connection.call("SELECT", str(address.database))


def _judge(machine: Machine, connection: resp.Connection, address: Address) -> List[Finding]:
    client, shown = client_command(address), address.location
    times = []
    for _ in range(3):
        begun = time.monotonic()
        connection.call("PING")
        times.append((time.monotonic() - begun) * 1000)
    findings: List[Finding] = []
    info = _info(connection)
    version = info.get("valkey_version") or info.get("redis_version") or "unknown"
    # Valkey also reports the Redis version that it is compatible with, which is the one to compare.
    numbers = tuple(int(part) for part in info.get("redis_version", "").split(".")[:2] if part.isdigit())
    milliseconds = sorted(times)[1]
    if numbers and numbers < MIN_VERSION:
        values = {"version": version, "least": ".".join(map(str, MIN_VERSION))}
        findings.append(finding("redis_old", version, **values, command=machine.pipeline("up")))
    findings += _memory(info, client) + _persistence(connection, info, client)
    if info.get("role") == "slave" and info.get("slave_read_only") == "1":
        findings.append(finding("redis_read_only", f"replica of {info.get('master_host', '?')}"))
    findings += _commands(connection, address.login)
    if milliseconds > SLOW_ROUND_TRIP:
        findings.append(finding("redis_slow", shown, milliseconds=f"{milliseconds:.0f}"))
    findings += _clock(connection)
    if any(found.status == "fail" for found in findings):
        return findings
    product = "Valkey" if "valkey_version" in info else "Redis"
    fit = finding("redis_fit", shown, product=product, version=version, milliseconds=f"{milliseconds:.1f}")
    return [fit, *findings]


def _info(connection: resp.Connection) -> Dict[str, str]:
    """Return the fields of INFO; empty if the user may not run it."""
    try:
        text = connection.call("INFO")
    except resp.ErrorReply as error:
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
    except resp.ErrorReply:  # managed servers hide their configuration and persist in their own way
        return []
    if len(answer) == 2 and answer[1]:
        return []
    return [finding("redis_not_persistent", "appendonly no, save ''", command=f"{client} CONFIG SET appendonly yes")]


def _commands(connection: resp.Connection, user: str) -> List[Finding]:
    """Try the commands that the queues depend on; nothing is written."""
    findings = []
    who = user or "default"
    try:
        connection.call("BLMOVE", PROBE, PROBE, "LEFT", "LEFT", "0.01")
    except resp.ErrorReply as error:
        findings.append(finding("redis_no_blocking", str(error), user=who))
    try:
        connection.call("EVAL", "return redis.call('EXISTS', KEYS[1])", "1", PROBE)
    except resp.ErrorReply as error:
        findings.append(finding("redis_not_permitted", str(error), name="EVAL", reason=error, user=who))
    return findings


def _clock(connection: resp.Connection) -> List[Finding]:
    try:
        seconds, micro = connection.call("TIME")
    except resp.ErrorReply:
        return []
    skew = int(seconds) + int(micro) / 1e6 - time.time()
    if abs(skew) <= MAX_CLOCK_SKEW:
        return []
    return [finding("redis_clock", f"{skew:+.1f} s", seconds=f"{abs(skew):.0f}")]
