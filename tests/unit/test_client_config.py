"""What a client knows of its Redis and its limits, and from where."""

from dataclasses import FrozenInstanceError, fields

import pytest
from pydantic import ValidationError

from config.settings import Settings
from voicemill import Client
from voicemill.config import NUMBERS, TEXTS, ClientConfig
from voicemill.errors import JobError


@pytest.mark.parametrize(
    ("text", "found"),
    [("", ClientConfig().result_ttl), ("  ", ClientConfig().result_ttl), ("1", 1), ("1e6", 1_000_000), ("2.5", 2.5)],
)
def test_a_number_is_read_and_an_empty_variable_counts_as_unset(text, found):
    assert ClientConfig.from_environment({"RESULT_TTL": text}).result_ttl == found


@pytest.mark.parametrize("text", ["abc", "inf", "nan", "0", "0.0001", "-1"])
def test_an_invalid_number_is_named_with_what_is_accepted(text):
    with pytest.raises(JobError, match=f"RESULT_TTL is '{text}'; it must be a number of at least 1") as raised:
        ClientConfig.from_environment({"RESULT_TTL": text})

    assert raised.value.code == "invalid_settings"


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_of_the_environment_is_read_and_an_invalid_one_named(name):
    variable = name.upper()
    found = getattr(ClientConfig.from_environment({variable: " 7 "}), name)

    assert (found, type(found)) == (7, NUMBERS[name])
    with pytest.raises(JobError, match=f"{variable} is 'many'; it must be a .*number of at least 1"):
        ClientConfig.from_environment({variable: "many"})


@pytest.mark.parametrize("name", [name for name, kind in NUMBERS.items() if kind is int])
def test_a_fraction_is_refused_where_only_a_whole_number_has_a_meaning_as_by_the_workers(name):
    with pytest.raises(JobError, match=f"{name.upper()} is '2.5'; it must be a whole number of at least 1"):
        ClientConfig.from_environment({name.upper(): "2.5"})
    with pytest.raises(ValidationError):
        Settings(**{name: "2.5"})


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_of_the_environment_is_read_and_an_empty_one_counts_as_unset(name):
    assert getattr(ClientConfig.from_environment({name.upper(): "text"}), name) == "text"
    assert getattr(ClientConfig.from_environment({name.upper(): " "}), name) is None


def test_the_defaults_are_those_of_the_workers_settings():
    shared = {each.name for each in fields(ClientConfig)} & set(Settings.model_fields)

    assert {"result_ttl", "handoff_ttl", "max_queued", "max_source_bytes", "max_handoff_bytes"} <= shared
    for name in shared:
        assert getattr(ClientConfig(), name) == Settings.model_fields[name].default, name


def test_a_configuration_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        ClientConfig().result_ttl = 5


def test_a_client_of_another_url_takes_nothing_from_the_environment(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://here:6379/0")
    monkeypatch.setenv("REDIS_USERNAME", "ann")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("HANDOFF_KEY", "secret")
    monkeypatch.setenv("RESULT_TTL", "5")

    here, there = Client().config, Client("redis://there:6379/0", max_queued=3).config

    assert (here.address.username, here.address.password, here.result_ttl) == ("ann", "hunter2", 5)
    assert (there.address.url, there.address.username, there.address.password) == ("redis://there:6379/0", None, None)
    assert (there.handoff_key, there.result_ttl, there.max_queued) == (None, ClientConfig().result_ttl, 3)


def test_a_client_may_be_given_its_login_apart_from_the_url():
    config = Client("rediss://there:6380/0", username="ann", password="hunter2", ca_certs="/ca.pem").config

    assert (config.address.username, config.address.password, config.address.ca_certs) == ("ann", "hunter2", "/ca.pem")


@pytest.mark.parametrize("subject", [ClientConfig, Client, lambda **more: Client(**more).config.address])
def test_no_secret_is_in_a_repr(subject, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://ann:hunter2@here:6379/0")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("HANDOFF_KEY", "hunter2")
    monkeypatch.setenv("WEBHOOK_URL", "https://hook/?token=hunter2")

    shown = repr(subject() if subject is not ClientConfig else ClientConfig.from_environment())

    assert "hunter2" not in shown


def test_an_option_that_does_not_exist_is_an_error():
    with pytest.raises(TypeError):
        Client("redis://here:6379/0", max_queud=3)
