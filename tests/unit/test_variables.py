"""The numbers that a sender reads from its environment without the settings."""

import pytest

from voicemill import variables
from voicemill.errors import JobError


@pytest.mark.parametrize(
    ("text", "found"),
    [("", 7), ("  ", 7), ("1", 1), ("1e6", 1_000_000), ("2.5", 2.5)],
)
def test_a_number_is_read_and_an_empty_variable_counts_as_unset(monkeypatch, text, found):
    monkeypatch.setenv("RESULT_TTL", text)

    assert variables.number("RESULT_TTL", 7) == found


@pytest.mark.parametrize("text", ["abc", "inf", "nan", "0", "0.0001", "-1"])
def test_what_is_no_usable_number_is_named_with_what_it_takes(monkeypatch, text):
    monkeypatch.setenv("RESULT_TTL", text)

    with pytest.raises(JobError, match=f"RESULT_TTL is '{text}': it takes a number of at least 1") as raised:
        variables.number("RESULT_TTL", 7)

    assert raised.value.code == "invalid_settings"
