"""API keys: what is kept of them, and whose they are."""

import hashlib

import pytest

from voicemill.options import LANGUAGES
from web import auth
from web.languages import NAMES


def test_a_new_key_matches_its_entry_which_does_not_contain_it():
    key, entry = auth.generate("bot")

    assert auth.match(auth.parse(entry), key) == auth.Caller("bot")
    assert key not in entry
    assert entry == f"bot:{hashlib.sha256(key.encode()).hexdigest()}"


def test_each_of_several_keys_identifies_its_own_caller():
    made = {name: auth.generate(name) for name in ("one", "two", "three")}
    known = auth.parse(", ".join(entry for _, entry in made.values()))

    assert [auth.match(known, key).name for key, _ in made.values()] == ["one", "two", "three"]


@pytest.mark.parametrize("key", ["", "vm_", "ключ", "\udcff", "x" * 100_000])
def test_an_unknown_key_identifies_nobody(key):
    assert auth.match(auth.parse(auth.generate("bot")[1]), key) is None


@pytest.mark.parametrize(
    "text", ["bot", "bot:abc", f"b t:{'a' * 64}", f"bot:{'g' * 64}", f"bot:{'a' * 64} bot:{'b' * 64}"]
)
def test_malformed_entries_are_rejected_without_being_shown(text):
    with pytest.raises(ValueError, match=r"entry|entries") as refused:
        auth.parse(text)

    assert "a" * 64 not in str(refused.value)


def test_every_language_of_whisper_has_a_name():
    assert set(NAMES) == set(LANGUAGES)
