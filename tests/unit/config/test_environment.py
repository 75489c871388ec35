"""The environment that every part of Voicemill sees."""

import ast
from pathlib import Path

import pytest
from dotenv import dotenv_values

from cli import up
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


def test_a_byte_order_mark_hides_no_variable(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("WHISPER_DEVICE=cpu\n", encoding="utf-8-sig")

    assert environment.values()["WHISPER_DEVICE"] == "cpu"


def old_korean(path):
    path.write_bytes("WHISPER_DEVICE=cpu\n# 설정\n".encode("cp949"))


@pytest.mark.parametrize(
    ("make", "said"),
    [(old_korean, "line 2 is not UTF-8"), (Path.mkdir, "Is a directory"), (lambda it: it.symlink_to(it), "links")],
    ids=["CP949", "a folder", "a link to itself"],
)
def test_an_env_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, monkeypatch, make, said):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    make(tmp_path / ".env")

    for read in (environment.values, settings.Settings):
        with pytest.raises(environment.DotenvError, match=rf"{tmp_path}/\.env cannot be read: .*{said}"):
            read()
    with pytest.raises(settings.SettingsError, match=said):
        settings.get()
    assert "PATH" in environment.values(strict=False)


@pytest.mark.parametrize("module", ["__init__.py", "environment.py"])
def test_what_the_doctor_imports_has_the_grammar_of_python_3_8(module):
    source = (environment.STATE.parent / "config" / module).read_text()

    ast.parse(source, feature_version=(3, 8))


def test_up_leaves_the_settings_of_dotenv_to_the_stages_which_read_them_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("GEMINI_MODEL=a\nWHISPER_MODEL=small\nMEDIA_ROOT=/media\nAWS_PROFILE=ours\nNUL=\0\n")
    monkeypatch.setenv("MEDIA_ROOT", "")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")

    found = up.child_environment("redis://127.0.0.1:1")

    assert not {"GEMINI_MODEL", "WHISPER_MODEL", "NUL"} & found.keys()
    assert (found["AWS_PROFILE"], found["AWS_REGION"]) == ("ours", "eu-north-1")
    assert found["MEDIA_ROOT"] == "", "the process has unset it"
    (tmp_path / ".env").write_text("")
    assert up.child_environment("redis://127.0.0.1:1")["WHISPER_MODEL"] == "bundled:tiny.en"
