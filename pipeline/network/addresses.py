"""Which machines a worker may talk to: those of the public internet, unless the operator says otherwise.

A name is judged by the addresses it resolves to, at the moment of connecting, and the connection goes to the address
that was judged: no spelling of a number, no second answer of a name server and no redirect leads around it.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import IPv4Address, IPv6Address

from config.settings import Settings
from pipeline.network.deadline import within
from voicemill.errors import ErrorCode, JobError

Address = IPv4Address | IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
ASSIGNMENTS = ipaddress.IPv4Network("192.0.0.0/24")  # RFC 6890; public to Python before 3.11.10 and 3.12.4
DOCUMENTS = ipaddress.IPv6Network("3fff::/20")  # RFC 9637; public to many a Python
NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215: a site's own, at whatever place
COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, given up: the last 32 bits are an IPv4 address
# RFC 5214: what stands in an IPv6 address before the IPv4 one of a machine of the same site, in whatever network.
ISATAP = (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe")
# Where clouds hand credentials to their machines, beyond the link-local 169.254.169.254: Azure's wireserver, which has
# a public number, Alibaba's, Oracle's, and over IPv6 Amazon's two and Google's.
_SERVICES = ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254")
SERVICES = frozenset(map(ipaddress.ip_address, _SERVICES))
# Bytes of an IPv6 address that may hold an IPv4 one where a site translates by itself (RFC 6052, section 2.2).
PLACES = ((12, 13, 14, 15), (9, 10, 11, 12), (7, 9, 10, 11), (6, 7, 9, 10))
RESOLVE = 10.0  # seconds after which a name server counts as not answering


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom a worker may talk to. Patterns are of host names (`*.example.com`), networks of addresses."""

    private: bool = False
    allow_names: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()
    deny_names: tuple[str, ...] = ()
    deny_networks: tuple[Network, ...] = ()


def policy(settings: Settings) -> Policy:
    """Return the policy that the settings describe for sources."""
    allow_names, allow_networks = _patterns(settings.source_allow_hosts)
    deny_names, deny_networks = _patterns(settings.source_deny_hosts)
    return Policy(settings.source_allow_private, allow_names, allow_networks, deny_names, deny_networks)


def webhook_policy(settings: Settings) -> Policy:
    """Return the policy that the settings describe for webhooks."""
    return Policy(settings.webhook_allow_private, *_patterns(settings.webhook_allow_hosts))


def checked(host: str, port: int, rules: Policy) -> list[tuple[str, int]]:
    """Resolve a host and return the addresses that may be connected to, in the resolver's order.

    Raises:
        JobError: `source_forbidden`: none may; `source_not_found`: the name is nobody's; `source_unavailable`: the name
            server does not answer.
    """
    name = host.lower().strip("[]").rstrip(".")
    if any(fnmatchcase(name, pattern) for pattern in rules.deny_names):
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the host is on SOURCE_DENY_HOSTS")
    try:
        found = within(RESOLVE, partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise JobError(
            ErrorCode.SOURCE_UNAVAILABLE, f"the host's name has not been resolved within {RESOLVE:g} s"
        ) from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise JobError(ErrorCode.SOURCE_UNAVAILABLE, "the host's name cannot be resolved at the moment") from None
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, f"the host's name cannot be resolved: {error.strerror}") from None
    except (UnicodeError, ValueError, OverflowError):
        raise JobError(ErrorCode.SOURCE_NOT_FOUND, "the host's name or port is no such thing") from None
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    allowed = [(address, port) for address in addresses if _allowed(address, name, rules)]
    if not allowed:
        raise JobError(ErrorCode.SOURCE_FORBIDDEN, "the host is not one that this worker may talk to")
    return allowed


def public(address: Address) -> bool:
    """Tell whether an address is a public machine's, also where another address is wrapped in it."""
    if address in ASSIGNMENTS or address in DOCUMENTS or _local(address):
        return False
    inner = _wrapped(address)
    if inner is not None:
        return public(inner)
    return address.is_global and not (address.is_reserved or nobodys(address))


def nobodys(address: Address) -> bool:
    """Tell whether no message can lie at an address, in a closed network neither: groups, and services of the cloud."""
    return address.is_multicast or address.is_unspecified or _of_cloud(address)


def _of_cloud(address: Address) -> bool:
    """Tell whether an address is where clouds keep their metadata, also where only this site knows it wrapped."""
    hidden = [IPv4Address(bytes(address.packed[n] for n in place)) for place in PLACES] if _local(address) else []
    return any(one.is_link_local or one in SERVICES for one in (address, *hidden))


def _local(address: Address) -> bool:
    """Tell whether an address means something to its own site alone."""
    if isinstance(address, IPv4Address):
        return False
    isatap = address.packed[8:12] in ISATAP
    return isatap or address.is_site_local or address in NAT64_LOCAL or address in COMPATIBLE


def _wrapped(address: Address) -> Address | None:
    """Return the IPv4 address that an IPv6 address leads to: IPv4-mapped, NAT64, 6to4 or Teredo."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _allowed(text: str, name: str, rules: Policy) -> bool:
    given = ipaddress.ip_address(text.partition("%")[0])  # without the zone of a link-local address
    address = _wrapped(given) or given
    if any(address in network for network in rules.deny_networks):
        return False
    if nobodys(given) or nobodys(address) or not (rules.private or public(given)):
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
