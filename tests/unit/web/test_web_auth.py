"""API keys: what is kept of them, and who is let in."""

import hashlib

import pytest

from voicemill.options import LANGUAGES
from web import keys
from web.languages import NAMES


def test_a_new_key_is_known_by_its_entry_which_does_not_hold_it():
    key, entry = keys.generate("bot")

    assert keys.match(keys.parse(entry), key) == keys.Caller("bot")
    assert key not in entry
    assert entry == f"bot:{hashlib.sha256(key.encode()).hexdigest()}"


def test_of_several_keys_each_is_its_own_callers():
    made = {name: keys.generate(name) for name in ("one", "two", "three")}
    known = keys.parse(", ".join(entry for _, entry in made.values()))

    assert [keys.match(known, key).name for key, _ in made.values()] == ["one", "two", "three"]


@pytest.mark.parametrize("key", ["", "vm_", "ключ", "\udcff", "x" * 100_000])
def test_what_is_no_key_is_nobodys(key):
    assert keys.match(keys.parse(keys.generate("bot")[1]), key) is None


@pytest.mark.parametrize(
    "text", ["bot", "bot:abc", f"b t:{'a' * 64}", f"bot:{'g' * 64}", f"bot:{'a' * 64} bot:{'b' * 64}"]
)
def test_entries_of_another_form_are_refused_without_being_shown(text):
    with pytest.raises(ValueError, match=r"entry|twice") as refused:
        keys.parse(text)

    assert "a" * 64 not in str(refused.value)


def test_every_language_of_whisper_has_a_name():
    assert set(NAMES) == LANGUAGES
