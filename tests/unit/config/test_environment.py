"""The environment that every part of Voicemill sees."""

import ast

import pytest
from dotenv import dotenv_values

from config import environment, settings

LINES = """
# a comment
PLAIN=value
export EXPORTED=yes
SPACED = around
QUOTED="two words # no comment"
SINGLE='it is'
COMMENTED=value # a comment
HASH=a#b
EMPTY=
URL=redis://:pw@h:1/0?x=1
not a line
"""


def test_dotenv_is_read_as_pydantic_settings_would_read_it(tmp_path):
    (tmp_path / ".env").write_text(LINES)

    ours = environment.parse_dotenv(LINES)

    theirs = {name: value for name, value in dotenv_values(tmp_path / ".env").items() if value is not None}
    assert ours == theirs


def test_the_process_overrules_dotenv_and_empty_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("WHISPER_DEVICE=cpu\nGEMINI_MODEL=from-file\nMEDIA_ROOT=/media\n")
    monkeypatch.setenv("GEMINI_MODEL", "from-process")
    monkeypatch.setenv("MEDIA_ROOT", "")
    settings.get.cache_clear()

    chosen = settings.get()

    assert (chosen.whisper_device, chosen.gemini_model, chosen.media_root) == ("cpu", "from-process", None)


def test_the_redis_of_up_is_used_where_nothing_else_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "REDIS_URL_FILE", tmp_path / "redis.url")
    (tmp_path / "redis.url").write_text("redis://127.0.0.1:4711/0\n")
    assert environment.values()["REDIS_URL"] == "redis://127.0.0.1:4711/0"

    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/0")
    assert environment.values()["REDIS_URL"] == "redis://elsewhere:6379/0"


@pytest.mark.parametrize("module", ["__init__.py", "environment.py"])
def test_what_the_doctor_imports_has_the_grammar_of_python_3_8(module):
    source = (environment.STATE.parent / "config" / module).read_text()

    ast.parse(source, feature_version=(3, 8))
