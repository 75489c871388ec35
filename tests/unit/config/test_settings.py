"""The settings: what they take, how they are shown, and that their documentation is theirs."""

import pytest

from config import environment, settings

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
        ("MAX_DURATION", "-1", "greater than 0"),
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


def test_the_key_of_gemini_goes_by_both_its_names(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", "k")

    assert settings.get().gemini_api_key.get_secret_value() == "k"
