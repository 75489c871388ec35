"""The page's words: complete in each language, and the right language for each reader."""

import re
from pathlib import Path

import pytest

from voicemill.errors import ErrorCode
from web.page import language, respond


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


def test_every_language_says_everything_with_the_same_values_filled_in():
    english, korean = (language.TEXTS[name] for name in ("en", "ko"))
    translated = {key for key in keys(korean) if not key.startswith("remedies.")}

    assert translated == set(keys(english))
    for key in translated:
        assert sorted(re.findall(r"\{\w+\}", at(english, key))) == sorted(re.findall(r"\{\w+\}", at(korean, key)))
        assert at(korean, key).strip()


def test_remedies_are_translated_of_errors_that_there_are():
    assert set(language.TEXTS["ko"]["remedies"]) <= set(CODES)


def test_a_remedy_falls_back_to_the_table_of_errors_and_an_unknown_code_has_none():
    assert language.remedy("en", "too_long") == ErrorCode("too_long").remedy
    assert "MAX_DURATION" in language.remedy("ko", "too_long")
    assert language.remedy("ko", "unknown") is None


@pytest.mark.parametrize(
    ("wish", "accept", "chosen"),
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
def test_the_reader_gets_the_language_chosen_before_or_the_one_that_the_browser_prefers(wish, accept, chosen):
    assert language.choose(wish, accept) == chosen


def test_scripts_ask_only_for_words_that_the_page_gives_them():
    given = Path(respond.__file__).read_text()
    for name, content in respond.STATIC.items():
        if name.endswith(".js"):
            for asked in re.findall(r'\bword\("(\w+)"', content.decode()):
                assert f'"{asked}"' in given, f"{name} asks for {asked}"


def test_nothing_on_the_page_comes_from_elsewhere():
    templates = [path.read_text() for path in (respond.HERE / "templates").iterdir()]
    for content in [*templates, *(data.decode() for data in respond.STATIC.values())]:
        assert not re.search(r"(src|href|url|import)\W{1,4}(https?:)?//", content)
        assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", content)
