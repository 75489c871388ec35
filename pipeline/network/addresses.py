"""Decide which hosts a worker may connect to: those on the public internet, unless the operator permits others.

A name is checked by the addresses that it resolves to at the moment of connecting, and the connection goes to the
address that was checked. So an unusual spelling of a number, DNS rebinding or a redirect cannot bypass the check.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from config.settings import Settings
from pipeline.network.deadline import within
from voicemill.errors import ErrorCode, JobError

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Check = Callable[[str, int], list[tuple[str, int]]]  # from a host and its port to the addresses to connect to

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
ASSIGNMENTS = ipaddress.IPv4Network("192.0.0.0/24")  # RFC 6890; Python before 3.11.10 and 3.12.4 takes it for public
DOCUMENTS = ipaddress.IPv6Network("3fff::/20")  # RFC 9637; older Pythons take it for public
NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215: a site's own, in a layout of its own
COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, deprecated: the last 32 bits are an IPv4 address
# RFC 5214: the interface identifier that precedes the IPv4 address of a host of the same site, in any network.
ISATAP = (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe")
# Metadata services, which give credentials to a cloud's machines, beside the link-local 169.254.169.254: Azure's
# WireServer, which has a public address, Alibaba's, Oracle's, and over IPv6 Amazon's two and Google's.
_SERVICES = ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")
SERVICES = frozenset(map(ipaddress.ip_address, _SERVICES))
# Bytes of an IPv6 address that hold the IPv4 address if a site has its own translation prefix (RFC 6052, section 2.2).
PLACES = ((12, 13, 14, 15), (9, 10, 11, 12), (7, 9, 10, 11), (6, 7, 9, 10))
TIMEOUT = 10.0  # seconds that name servers may take


@dataclass(frozen=True, slots=True)
class Policy:
    """The hosts that a worker may connect to: names are patterns (`*.example.com`), networks are of addresses."""

    private: bool = False
    allow_names: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()
    deny_names: tuple[str, ...] = ()
    deny_networks: tuple[Network, ...] = ()


def policy(settings: Settings) -> Policy:
    """Return the policy for sources."""
    allow_names, allow_networks = _patterns(settings.source_allow_hosts)
    deny_names, deny_networks = _patterns(settings.source_deny_hosts)
    return Policy(settings.source_allow_private, allow_names, allow_networks, deny_names, deny_networks)


def webhook_policy(settings: Settings) -> Policy:
    """Return the policy for webhooks."""
    return Policy(settings.webhook_allow_private, *_patterns(settings.webhook_allow_hosts))


def checked(
    host: str,
    port: int,
    rules: Policy,
    *,
    resolve: Callable[..., list[Any]] = socket.getaddrinfo,
    timeout: float = TIMEOUT,
) -> list[tuple[str, int]]:
    """Resolve a host and return the addresses that may be connected to, in the resolver's order.

    Args:
        host: its name, or an address in any spelling.
        port: to connect to.
        rules: which hosts are permitted.
        resolve: as `socket.getaddrinfo`.
        timeout: seconds that it may take.

    Raises:
        JobError: `source_forbidden`: the host may not be connected to; `source_not_found`: the name does not exist;
            `source_unavailable`: the name servers do not answer.
    """
    name = host.lower().strip("[]").rstrip(".")
    if any(fnmatchcase(name, pattern) for pattern in rules.deny_names):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the host is on SOURCE_DENY_HOSTS")
    try:
        found = within(timeout, partial(resolve, name, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        message = f"the host's name was not resolved within {timeout:g} s"
        raise JobError(ErrorCode.SOURCE_UNAVAILABLE, message) from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise JobError(ErrorCode.SOURCE_UNAVAILABLE, "the host's name cannot be resolved at the moment") from None
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, f"the host's name cannot be resolved: {error.strerror}") from None
    except (UnicodeError, ValueError, OverflowError):
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the host's name or port is invalid") from None
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    allowed = [(address, port) for address in addresses if _allowed(address, name, rules)]
    if not allowed:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "this worker may not connect to the host")
    return allowed


def public(address: Address) -> bool:
    """Return whether an address is public, and so is an IPv4 address that it embeds."""
    if address in ASSIGNMENTS or address in DOCUMENTS or _local(address):
        return False
    inner = _embedded(address)
    if inner is not None:
        return public(inner)
    return address.is_global and not (address.is_reserved or never_allowed(address))


def never_allowed(address: Address) -> bool:
    """Return whether no setting permits an address: multicast, the unspecified one, and metadata services of clouds."""
    return address.is_multicast or address.is_unspecified or _is_metadata(address)


def _is_metadata(address: Address) -> bool:
    """Return whether an address is a metadata service's, also if it is embedded in a way that only this site knows."""
    hidden = [IPv4Address(bytes(address.packed[n] for n in place)) for place in PLACES] if _local(address) else []
    return any(one.is_link_local or one in SERVICES for one in (address, *hidden))


def _local(address: Address) -> bool:
    """Return whether an address is meaningful within its own site only."""
    if isinstance(address, IPv4Address):
        return False
    isatap = address.packed[8:12] in ISATAP
    return isatap or address.is_site_local or address in NAT64_LOCAL or address in COMPATIBLE


def _embedded(address: Address) -> Address | None:
    """Return the IPv4 address that an IPv6 address leads to: IPv4-mapped, NAT64, 6to4 or Teredo."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _allowed(text: str, name: str, rules: Policy) -> bool:
    given = ipaddress.ip_address(text.partition("%")[0])  # without the zone of a link-local address
    address = _embedded(given) or given
    if any(address in network for network in rules.deny_networks):
        return False
    if never_allowed(given) or never_allowed(address) or not (rules.private or public(given)):
        return False
    if not (rules.allow_names or rules.allow_networks):
        return True
    by_name = any(fnmatchcase(name, pattern) for pattern in rules.allow_names)
    return by_name or any(address in network for network in rules.allow_networks)


def _patterns(hosts: str) -> tuple[tuple[str, ...], tuple[Network, ...]]:
    names: list[str] = []
    networks: list[Network] = []
    for word in hosts.replace(",", " ").split():
        try:
            networks.append(ipaddress.ip_network(word, strict=False))
        except ValueError:
            names.append(word.lower().rstrip("."))
    return tuple(names), tuple(networks)
