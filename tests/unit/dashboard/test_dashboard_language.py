"""The dashboard's texts: complete in each language, and the right language for each reader."""

import re
from pathlib import Path

import pytest

from voicemill.errors import ErrorCode
from web.dashboard import language, respond


def keys(texts, prefix=""):
    for name, value in texts.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def at(texts, key):
    for name in key.split("."):
        texts = texts[name]
    return texts


def test_every_expectedhas_every_text_with_the_same_placeholders():
    english, korean = (language.TEXTS[name] for name in ("en", "ko"))
    translated = {key for key in keys(korean) if not key.startswith("remedies.")}

    assert translated == set(keys(english))
    for key in translated:
        assert sorted(re.findall(r"\{\w+\}", at(english, key))) == sorted(re.findall(r"\{\w+\}", at(korean, key)))
        assert at(korean, key).strip()


def test_only_existing_errors_have_translated_remedies():
    assert set(language.TEXTS["ko"]["remedies"]) <= set(ErrorCode)


def test_a_remedy_falls_back_to_the_error_table_and_an_unknown_code_has_none():
    assert language.remedy("en", "too_long") == ErrorCode.TOO_LONG.remedy
    assert "MAX_DURATION" in language.remedy("ko", "too_long")
    assert language.remedy("ko", "unknown") is None


@pytest.mark.parametrize(
    ("chosen", "accept", "expected"),
    [
        (None, None, "en"),
        (None, "ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        (None, "de-DE,de;q=0.9,ko;q=0.5,en;q=0.3", "ko"),
        (None, "en-GB,ko;q=0.9", "en"),
        (None, "en;q=0.2,ko;q=0.7", "ko"),
        (None, "ko;q=0,en;q=0.1", "en"),
        (None, "fr", "en"),
        (None, "ko;q=x,,;;=", "en"),
        ("ko", "en-US", "ko"),
        ("en", "ko-KR", "en"),
        ("xx", "ko-KR", "ko"),
    ],
)
def test_the_reader_gets_the_expectedchosen_before_or_preferred_by_the_browser(chosen, accept, expected):
    assert language.choose(chosen, accept) == expected


def test_scripts_use_only_texts_that_the_page_has():
    available = Path(respond.__file__).read_text()
    for name, content in respond.STATIC.items():
        if name.endswith(".js"):
            for used in re.findall(r'\bword\("(\w+)"', content.decode()):
                assert f'"{used}"' in available, f"{name} uses {used}"


def test_nothing_on_a_page_comes_from_another_site():
    templates = [path.read_text() for path in (respond.HERE / "templates").iterdir()]
    for content in [*templates, *(data.decode() for data in respond.STATIC.values())]:
        assert not re.search(r"(src|href|url|import)\W{1,4}(https?:)?//", content)
        assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", content)
