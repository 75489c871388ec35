"""The settings: what they take, how they are shown, and that their documentation is theirs."""

import pytest
from cryptography.fernet import Fernet

from config import environment, settings
from voicemill.address import masked

CLONE = environment.STATE.parent


def test_env_example_is_the_one_the_code_generates():
    assert (CLONE / "config" / ".env.example").read_text() == settings.example(), "run `make generated`"


def test_every_setting_is_explained_and_says_its_unit():
    for name, field in settings.Settings.model_fields.items():
        assert field.description, name
        if "ttl" in name or "timeout" in name or "duration" in name or "deadline" in name:
            assert "seconds" in field.description, name
        if name.endswith("_bytes"):
            assert "bytes" in field.description, name


@pytest.mark.parametrize(
    ("variable", "value", "takes"),
    [
        ("WHISPER_DEVICE", "gpu", "'auto', 'cuda' or 'cpu'"),
        ("WHISPER_COMPUTE_TYPE", "fp16", "float16"),
        ("ENCODER_WINDOW", "9999", "from 1 to 30"),
        ("ENCODER_WINDOW", "half", "auto, full"),
        ("WHISPER_GPUS", "first", "takes all, or indices of GPUs such as 0,1"),
        ("WHISPER_GPUS", "0;1", "takes all, or indices of GPUs such as 0,1"),
        ("GEMINI_ENDPOINT", "proxy.example", "takes https://HOST"),
        ("GEMINI_ENDPOINT", "https://proxy.example/?key=1", "takes https://HOST"),
        ("MAX_DURATION", "-1", "greater than 0"),
        ("MAX_DURATION", "inf", "finite"),
        ("MIN_DURATION", "nan", "finite"),
        ("DECODE_TIMEOUT", "inf", "finite"),
        ("DECODE_TIMEOUT", "1e12", "less than or equal to 1000000000"),  # beyond what subprocess can wait
        ("HANDOFF_TTL", "0.5", "greater than or equal to 1"),  # Redis would have been told 0
        ("RESULT_TTL", "0.0001", "greater than or equal to 1"),
        ("MAX_SOURCE_BYTES", "many", "integer"),
        ("LOG_LEVEL", "loud", "'info'"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_got_and_what_it_takes(monkeypatch, variable, value, takes):
    monkeypatch.setenv(variable, value)

    with pytest.raises(settings.SettingsError) as raised:
        settings.get()

    assert variable in str(raised.value)
    assert repr(value) in str(raised.value)
    assert takes in str(raised.value)


def test_secrets_are_masked(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "rediss://user:hunter2@host:1/0?password=hunter2")
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("GOOGLE_API_KEY", "hunter2")

    shown = settings.effective(settings.get())

    assert "hunter2" not in str(shown)
    assert "hunter2" not in repr(settings.get())
    assert shown["REDIS_URL"] == "rediss://user:********@host:1/0"


@pytest.mark.parametrize("url", ["foo", ":hunter2@host:6379", "http://host", "redis://h:hunter2/0", "redis://h:99999"])
def test_what_is_no_address_of_redis_is_refused_and_not_shown(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)

    with pytest.raises(settings.SettingsError, match=r"REDIS_URL is .*: takes redis://HOST:PORT/NUMBER") as raised:
        settings.get()

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["redis://", "redis://h", "rediss://:p%2Fw@h:1/0?x=1", "unix:///run/redis.sock?db=1"])
def test_every_form_of_an_address_of_redis_is_taken(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)

    assert settings.get().redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@host:1/0", "redis://:********@host:1/0"),
        ("redis://:hunter2@host?a=hunter2", "redis://:********@host"),
        (":hunter2@host:6379", "********@host:6379"),
        ("host:6379", "host:6379"),
    ],
)
def test_an_address_is_shown_without_its_password_also_where_it_lacks_a_scheme(url, shown):
    assert masked(url) == shown


def test_the_key_of_gemini_goes_by_both_its_names(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "k")

    assert settings.get().gemini_api_key.get_secret_value() == "k"


def test_a_handoff_key_that_is_none_ends_a_worker_at_its_start_and_is_not_shown(monkeypatch):
    good, other = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    monkeypatch.setenv("HANDOFF_KEY", f"{good},{other[:-4]}")
    with pytest.raises(settings.SettingsError, match=r"HANDOFF_KEY .*takes Fernet keys") as raised:
        settings.get()
    assert other[:9] not in str(raised.value)
    monkeypatch.setenv("HANDOFF_KEY", f"{good}, {other}")
    assert settings.get().handoff_key is not None
