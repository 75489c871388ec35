"""The address of Redis is read in one place, as redis-py reads it."""

import dataclasses

import pytest
from redis.connection import parse_url

from voicemill.address import DEFAULT_URL, Address, from_environment, masked

URLS = [
    "redis://",
    "redis://h",
    "redis://h:7/3",
    "redis://h:7/3?db=4",
    "redis://[::1]:7/0",
    "redis://user:p%2Fw@h:1/0",
    "redis://:p%25w@h:1/0",
    "redis://h?username=user&password=p%2Fw",
    "rediss://h:7/1?ssl_ca_certs=/a/ca.pem&ssl_certfile=/a/c.pem&ssl_keyfile=/a/k.pem",
    "unix:///run/my%20redis.sock?db=2",
    "unix://user:pw@/run/redis.sock",
]


@pytest.mark.parametrize("url", URLS)
def test_the_address_is_read_as_redis_py_reads_it(url):
    address, theirs = Address(url), parse_url(url)

    address.check()

    assert address.socket == theirs.get("path", "")
    assert address.host == theirs.get("host", "127.0.0.1")
    assert address.port == theirs.get("port", 6379)
    assert address.database == theirs.get("db", 0)
    assert address.login == theirs.get("username", "")
    assert address.secret == theirs.get("password", "")
    assert address.authority == theirs.get("ssl_ca_certs", "")
    assert address.certificate == (theirs.get("ssl_certfile", ""), theirs.get("ssl_keyfile", ""))
    assert address.tls == ("connection_class" in theirs and not address.socket)


@pytest.mark.parametrize("url", ["redis://h/first", "redis://h/1/2", "redis://h/-1", "redis://h?db=-1"])
def test_a_database_that_redis_py_would_silently_replace_is_invalid(url):
    with pytest.raises(ValueError, match="the database is not a number"):
        Address(url).check()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("hunter2", "begin with redis://"),
        ("http://h", "begin with redis://"),
        ("REDIS://h", "begin with redis://"),
        ("redis://h:port", "port"),
        ("redis://h:70000", "port"),
        ("redis://:hunter/2@h", "in a password, write /"),
        ("redis://:hunter?2@h", "in a password, write /"),
        ("redis://:hunter2@[h", "host"),
        ("redis://h?db=first", "database"),
    ],
)
def test_what_redis_py_rejects_is_invalid_and_the_reason_quotes_no_password(url, reason):
    with pytest.raises(ValueError):  # noqa: PT011 - its text is redis-py's
        parse_url(url)
    with pytest.raises(ValueError, match=reason) as raised:
        Address(url).check()

    assert "hunter" not in str(raised.value)
    assert "hunter" not in masked(url).removesuffix("hunter2")  # text without any separator is shown as a host


def test_the_url_wins_over_what_stands_beside_it():
    beside = {"username": "u", "password": "p", "ca_certs": "/a"}

    assert Address("rediss://h", **beside).login == "u"
    assert Address("rediss://h", **beside).secret == "p"
    assert Address("rediss://h", **beside).authority == "/a"
    assert Address("rediss://user:pw@h?ssl_ca_certs=/b", **beside).login == "user"
    assert Address("rediss://user:pw@h?ssl_ca_certs=/b", **beside).secret == "pw"
    assert Address("rediss://user:pw@h?ssl_ca_certs=/b", **beside).authority == "/b"
    assert Address("redis://h", **beside).authority == ""


def test_verification_of_the_certificate_is_on_unless_the_url_turns_it_off():
    assert Address("rediss://h").verifies_host
    assert not Address("rediss://h?ssl_cert_reqs=none").verifies
    assert not Address("rediss://h?ssl_cert_reqs=none").verifies_host
    assert Address("rediss://h?ssl_check_hostname=false").verifies
    assert not Address("rediss://h?ssl_check_hostname=false").verifies_host


def test_without_a_variable_the_address_is_the_default():
    assert from_environment({}) == Address(DEFAULT_URL)


def test_an_address_is_frozen_and_shows_no_password():
    address = Address("redis://:hunter2@h", password="hunter2")

    with pytest.raises(dataclasses.FrozenInstanceError):
        address.url = "redis://other"
    assert "hunter2" not in repr(address)
