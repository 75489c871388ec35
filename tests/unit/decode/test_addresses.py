"""The hosts that a worker may connect to."""

import ipaddress
import threading
from contextlib import suppress

import pytest

from config.settings import Settings
from pipeline.network import addresses
from voicemill.errors import JobError

NOT_PUBLIC = {
    "loopback": "127.0.0.1 127.255.255.254 ::1",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd12:3456::1",
    "link-local, where clouds keep their metadata": "169.254.169.254 169.254.0.1 fe80::1",
    "services of clouds elsewhere": "168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd20:ce::254",
    "shared by carriers": "100.64.0.1 100.127.255.255",
    "multicast": "224.0.0.1 239.255.255.250 ff02::1 ff0e::1",
    "unassigned": "0.0.0.0 0.1.2.3 255.255.255.255 240.0.0.1 ::",
    "tests and documentation": "192.0.2.1 198.51.100.1 203.0.113.1 198.18.0.1 2001:db8::1 3fff::1 3fff:fff::1",
    "IPv4 in IPv6": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::7f00:1",
    "IPv4 through NAT64": "64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808",
    "IPv4 through 6to4 and Teredo": "2002:7f00:1:: 2002:a00:1:: 2001:0:53aa:64c:0:0:80ff:fffe",
    "IPv4 by ISATAP": "2001:4860::5efe:10.0.0.1 2001:4860::200:5efe:7f00:1 2002:808:808::5efe:a00:1 fe80::5efe:808:808",
    "deprecated": "fec0::1",
}
PUBLIC = "8.8.8.8 1.1.1.1 93.184.216.34 172.32.0.1 100.128.0.1 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808"
SPELLINGS = (
    "127.0.0.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.1 127.0.1 ::1 [::1] ::ffff:7f00:1 localhost"
)


@pytest.mark.parametrize("text", " ".join(NOT_PUBLIC.values()).split())
def test_private_and_special_addresses_are_not_public(text):
    assert not addresses.public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_public_addresses_are_recognised(text):
    assert addresses.public(ipaddress.ip_address(text))


@pytest.mark.parametrize("host", SPELLINGS.split())
def test_no_spelling_of_loopback_gets_through(host):
    with pytest.raises(JobError) as caught:
        addresses.checked(host, 443, addresses.Policy())
    assert caught.value.code in ("source_forbidden", "source_not_found")


WRAPPED = "::a9fe:a9fe ::ffff:a9fe:a9fe 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe 64:ff9b:1:a9fe:a9:fe00:: ::6464:64c8"
ISATAP = "2001:4860::5efe:a9fe:a9fe fd12::200:5efe:a9fe:a9fe fd12::5efe:6464:64c8 2002:808:808::5efe:a9fe:a9fe"
OTHERS = "169.254.169.254 fe80::1%1 224.0.0.1 0.0.0.0"


@pytest.mark.parametrize(
    "host", [*NOT_PUBLIC["services of clouds elsewhere"].split(), *f"{WRAPPED} {ISATAP} {OTHERS}".split()]
)
def test_metadata_services_are_refused_in_closed_networks_too(host):
    with pytest.raises(JobError, match="source_forbidden"):
        addresses.checked(host, 80, addresses.Policy(private=True))


@pytest.mark.parametrize("host", ["64:ff9b:1::a00:1", "::10.0.0.1", "fd12::1", "fd12::5efe:a00:1"])
def test_closed_networks_may_use_addresses_that_embed_their_own(host):
    assert addresses.checked(host, 80, addresses.Policy(private=True)) == [(host, 80)]


def test_a_slow_name_server_does_not_block_a_worker():
    answer = threading.Event()
    with pytest.raises(JobError, match="source_unavailable"):
        addresses.checked(
            "slow.example", 443, addresses.Policy(), resolve=lambda *_, **__: answer.wait(60), timeout=0.05
        )
    answer.set()


def rules(**settings):
    return addresses.policy(Settings(**settings))


def may(host, **settings):
    with suppress(JobError):
        return addresses.checked(host, 443, rules(**settings)) == [(host, 443)]
    return False


def test_a_closed_network_may_open_its_own_addresses():
    assert not may("10.1.2.3")
    assert may("10.1.2.3", source_allow_private=True)


def test_an_allow_list_shuts_out_all_others():
    assert may("8.8.8.8", source_allow_hosts="1.1.1.1, 8.8.0.0/16")
    assert not may("8.8.8.8", source_allow_hosts="1.1.1.1")
    assert not may("8.8.8.8", source_allow_hosts="*.example.com")


def test_the_allow_list_does_not_permit_private_addresses():
    assert not may("10.1.2.3", source_allow_hosts="10.0.0.0/8")


def test_the_deny_list_wins():
    assert not may("8.8.8.8", source_allow_hosts="8.8.8.8", source_deny_hosts="8.8.8.0/24")
    assert not may("8.8.8.8", source_deny_hosts="8.8.8.8")


def test_names_on_the_deny_list_are_not_even_resolved():
    with pytest.raises(JobError, match="SOURCE_DENY_HOSTS"):
        addresses.checked("Files.Example.INVALID.", 443, rules(source_deny_hosts="*.example.invalid"))


def test_an_allowed_name_is_still_checked_by_its_address():
    with pytest.raises(JobError, match="source_forbidden"):
        addresses.checked("localhost", 443, rules(source_allow_hosts="localhost"))


def test_a_name_that_does_not_exist_is_not_found():
    with pytest.raises(JobError) as caught:
        addresses.checked("voice.invalid", 443, addresses.Policy())
    assert caught.value.code in ("source_not_found", "source_unavailable")
