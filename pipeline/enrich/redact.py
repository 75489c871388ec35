"""Masks what identifies people before a transcript leaves for Gemini, and puts it back into what comes home.

E-mail addresses by their form; phone numbers by Google's libphonenumber; card, bank and identity numbers by the check
digits that python-stdnum knows; and any other number as long as those, since masking costs nothing. Each becomes a
token such as `[EMAIL-1]`, the same for the same text throughout.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

_EMAIL = re.compile(
    r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+|\b[\w.+-]{1,64} at [\w-]{1,63}(?: dot [a-z]{2,10})+\b"
)
_NUMBER = re.compile(
    r"(?<![\w-])[A-Z]{0,6}\d(?:[ .-]?[A-Z\d]){5,32}(?![\w-])|(?<![\w-])[A-Z]{2}\d{2}(?:[ -]?[A-Z\d]){11,30}\b"
)
_TOKEN = re.compile(r"\[(EMAIL|PHONE|CARD|ID|NUMBER)-(\d+)\]")

IDS = (  # modules of stdnum: numbers that name a person or account; those without check digits have a form of their own
    "iban us.ssn us.itin gb.nhs kr.rrn de.idnr fr.nir es.dni es.nie it.codicefiscale nl.bsn be.nn pt.cc "
    "ch.ssn se.personnummer no.fodselsnummer dk.cpr fi.hetu pl.pesel cz.rc ro.cnp bg.egn tr.tckimlik br.cpf mx.curp "
    "cl.rut ar.cuit ca.sin au.tfn in_.aadhaar in_.pan cn.ric za.idnr il.idnr th.pin"
).split()
CARD_DIGITS = range(13, 20)
SHORTEST = 9  # letters and digits of an identity number; dates and prices are shorter
LONGEST = 42  # characters of the longest number, an IBAN in groups of four


class Vault:
    """What was masked in one job's texts, and by which token. The same text always gets the same token."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._tokens: dict[str, str] = {}  # by what they stand for
        self._counts: dict[str, int] = {}
        self._said: set[str] = set()  # what looks like a token of ours and is the speaker's

    def mask(self, value: Any) -> Any:
        """Return a JSON value with tokens in the place of what identifies people."""
        if isinstance(value, str):
            return self._mask_text(value)
        if isinstance(value, list):
            return [self.mask(item) for item in value]
        if isinstance(value, dict):
            return {name: self.mask(item) for name, item in value.items()}
        return value

    def restore(self, value: Any) -> Any:
        """Return a JSON value with what was masked in the place of the tokens."""
        if isinstance(value, str):
            originals = {token: original for original, token in self._tokens.items()}
            return _TOKEN.sub(lambda match: originals.get(match[0], match[0]), value)
        if isinstance(value, list):
            return [self.restore(item) for item in value]
        if isinstance(value, dict):
            return {name: self.restore(item) for name, item in value.items()}
        return value

    def _mask_text(self, text: str) -> str:
        self._said.update(match[0] for match in _TOKEN.finditer(text))
        text = _EMAIL.sub(lambda match: self._token("EMAIL", match[0]), text)
        for start, end, kind in reversed(_numbers(text, self.region)):
            text = text[:start] + self._token(kind, text[start:end]) + text[end:]
        return text

    def _token(self, kind: str, original: str) -> str:
        while original not in self._tokens:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            token = f"[{kind}-{self._counts[kind]}]"
            if token not in self._said:
                self._tokens[original] = token
        return self._tokens[original]


def _numbers(text: str, region: str) -> list[tuple[int, int, str]]:
    """Return start, end and kind of each number that is to be masked, in their order, none of them overlapping."""
    import phonenumbers  # noqa: PLC0415 - loaded where ENRICH_REDACT is on

    found = []
    for match in _NUMBER.finditer(text):
        known = list(_known(match[0], match.start()))
        long = sum(map(str.isdigit, match[0])) >= SHORTEST
        found += known or ([(*match.span(), "NUMBER")] if long else [])
    found += [(match.start, match.end, "PHONE") for match in phonenumbers.PhoneNumberMatcher(text, region)]
    whole: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(found, key=lambda span: (span[0], -span[1])):
        if whole and start < whole[-1][1]:  # two that overlap become one: neither's end may show
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]), whole[-1][2])
        else:
            whole.append((start, end, kind))
    return whole


def _known(run: str, offset: int) -> Iterator[tuple[int, int, str]]:
    """Yield the stretches of a run of numbers that are known, the longest first: people say them one after another."""
    groups = [group.span() for group in re.finditer(r"\S+", run)]
    first = 0
    while first < len(groups):
        for last in range(len(groups), first, -1):
            start, end = groups[first][0], groups[last - 1][1]
            kind = _kind(run[start:end]) if end - start <= LONGEST else None
            if kind:
                yield offset + start, offset + end, kind
                first = last - 1
                break
        first += 1


def _kind(number: str) -> str | None:
    from stdnum import luhn  # noqa: PLC0415 - the same

    digits = re.sub(r"\D", "", number)
    if re.fullmatch(r"[\d .-]+", number) and len(digits) in CARD_DIGITS and luhn.is_valid(digits):
        return "CARD"
    if sum(map(str.isalnum, number)) < SHORTEST:
        return None
    return "ID" if any(module.is_valid(number) for module in _modules()) else None


@cache
def _modules() -> tuple[Any, ...]:
    return tuple(importlib.import_module(f"stdnum.{name}") for name in IDS)
