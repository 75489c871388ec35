"""The dashboard's texts in English and Korean, and which of the two a reader gets."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from web.problems import CODES

LANGUAGES = {"en": "English", "ko": "한국어"}  # each in its own words, for the switch
DEFAULT = "en"

Texts = dict[str, Any]


def _read(language: str) -> Texts:
    path = Path(__file__).parent / "texts" / f"{language}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


TEXTS: dict[str, Texts] = {language: _read(language) for language in LANGUAGES}


def choose(chosen: str | None, accept: str | None) -> str:
    """Return the language of an answer.

    Args:
        chosen: what the reader chose on the page before; None: nothing.
        accept: the `Accept-Language` header, as in `ko-KR,ko;q=0.9,en;q=0.8`.
    """
    if chosen in LANGUAGES:
        return chosen
    offers = []
    for place, item in enumerate((accept or "").split(",")):
        tag, _, parameters = item.strip().partition(";")
        name, _, value = parameters.strip().partition("=")
        try:
            weight = float(value) if name == "q" else 1.0
        except ValueError:
            weight = 0.0
        offers.append((-weight, place, tag.partition("-")[0].lower()))
    return next((tag for weight, _, tag in sorted(offers) if tag in LANGUAGES and weight < 0), DEFAULT)


def remedy(language: str, code: str) -> str | None:
    """Return what to do about an error; None: the code is unknown here."""
    translated: str | None = TEXTS[language].get("remedies", {}).get(code)
    if translated is not None:
        return translated
    return CODES[code].remedy if code in CODES else None
