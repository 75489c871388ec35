"""Masks personal data before a transcript is sent to a provider, and restores it in the answer.

It finds e-mail addresses by their form, written or spoken; phone numbers by libphonenumber; card, bank and identity
numbers by the check digits that python-stdnum knows; and any other number of that length except dates, since masking
one too many does no harm. Each becomes a token such as `[EMAIL-1]`, the same token for the same text within a job.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

from config.settings import SettingsError
from pipeline.enrich.sanitize import visible

Span = tuple[int, int, str]  # start, end and kind

_EMAIL = re.compile(
    r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"
    r"|(?i:\b[\w.+-]{1,64}(?: (?:dot|underscore|dash|plus) [\w+-]{1,64}){0,8}"
    r" at [\w-]{1,63}(?:(?: dot |\.)[\w-]{1,63}){0,8}(?: dot |\.)[a-z]{2,24}\b)"
)
# A Latin letter right after a number rules it out; a Korean or Japanese particle does not.
_NUMBER = re.compile(
    r"(?<![A-Za-z\d_-])(?:[A-Z]{0,6}\d(?:[ .-]?[A-Z\d]){5,32}|[A-Z]{2}\d{2}(?:[ -]?[A-Z\d]){11,30})(?![A-Za-z\d_-])"
)
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_DATE = re.compile(
    rf"(?<![\w.+-])(?:{_YEAR}([-./]){_MONTH}\1{_DAY}|{_DAY}([-./]){_MONTH}\2{_YEAR}|{_MONTH}/{_DAY}/{_YEAR})"
    r"(?:,?[ T](?:[01]?\d|2[0-3])[ :.][0-5]\d(?:[ :.][0-5]\d)?(?![ .:-]?\d))?(?![\d-]|[.:]\d)"
)
_YEARS = re.compile(rf"{_YEAR}(?:[ -]{_YEAR})+")
# Models change the case, dash and brackets of a token. Without brackets the rest must be exact.
_TOKEN = re.compile(
    r"\\?[\[【](?i:(?P<kind>EMAIL|PHONE|CARD|ID|NUMBER)) ?[- _]? ?(?P<number>\d+)\\?[\]】]"
    r"|(?<![\w-])(?P<bare>EMAIL|PHONE|CARD|ID|NUMBER)-(?P<count>\d+)(?![\w-])"
)

IDS = (  # modules of stdnum: numbers of persons and accounts, recognized by check digits or a distinctive form
    "iban us.ssn us.itin gb.nhs kr.rrn de.idnr fr.nir es.dni es.nie it.codicefiscale nl.bsn be.nn pt.cc "
    "ch.ssn se.personnummer no.fodselsnummer dk.cpr fi.hetu pl.pesel cz.rc ro.cnp bg.egn tr.tckimlik br.cpf mx.curp "
    "cl.rut ar.cuit ca.sin au.tfn in_.aadhaar in_.pan cn.ric za.idnr il.idnr th.pin"
).split()
CARD_DIGITS = range(13, 20)
SHORTEST = 9  # letters and digits of an identity number; longer than prices
LONGEST = 42  # characters of the longest number, an IBAN in groups of four


def check(region: str) -> None:
    """Check that phone numbers of a country can be found.

    Raises:
        SettingsError: libphonenumber does not know the country.
    """
    import phonenumbers  # noqa: PLC0415 - loaded where ENRICH_REDACT is on

    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise SettingsError(f"ENRICH_REDACT_REGION is {region!r}: takes an ISO 3166 country code such as US or GB")


class Vault:
    """The tokens of one job and what they stand for. The same text always gets the same token."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._tokens: dict[str, str] = {}  # by original text
        self._counts: dict[str, int] = {}
        self._spoken_tokens: set[str] = set()  # tokens that the transcript itself contains

    def mask(self, value: Any) -> Any:
        """Return a JSON value with personal data replaced by tokens."""
        if isinstance(value, str):
            return self._mask_text(visible(value))
        if isinstance(value, list):
            return [self.mask(item) for item in value]
        if isinstance(value, dict):
            return {self.mask(str(name)): self.mask(item) for name, item in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            masked = self._mask_text(str(value))
            return value if masked == str(value) else masked
        return value

    def restore(self, value: Any) -> Any:
        """Return a JSON value with tokens replaced by the original text."""
        if isinstance(value, str):
            return self._restore_text(value)
        if isinstance(value, list):
            return [self.restore(item) for item in value]
        if isinstance(value, dict):
            return {name: self.restore(item) for name, item in value.items()}
        return value

    def _mask_text(self, text: str) -> str:
        flat = _flat(text)
        self._spoken_tokens.update(map(_token_of, _TOKEN.finditer(flat)))
        # Line ends replace dates for the search, since no number continues across one.
        dateless = _DATE.sub(lambda match: "\n" * len(match[0]), flat)
        found = [(*match.span(), "EMAIL") for match in _EMAIL.finditer(flat)]
        masked, done = [], 0
        for start, end, kind in _merged([*found, *_numbers(dateless, self.region)]):
            masked += [text[done:start], self._token(kind, text[start:end])]
            done = end
        return "".join([*masked, text[done:]])

    def _restore_text(self, text: str) -> str:
        originals = {token: original for original, token in self._tokens.items()}
        restored, done = [], 0
        for match in _TOKEN.finditer(_flat(text)):
            original = originals.get(_token_of(match), text[match.start() : match.end()])
            restored += [text[done : match.start()], original]
            done = match.end()
        return "".join([*restored, text[done:]])

    def _token(self, kind: str, original: str) -> str:
        while original not in self._tokens:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            token = f"[{kind}-{self._counts[kind]}]"
            if token not in self._spoken_tokens:
                self._tokens[original] = token
        return self._tokens[original]


def _flat(text: str) -> str:
    """Return `text` with variants of spaces, dashes, digits and letters replaced by the plain ones, one for one."""
    return text if text.isascii() else "".join(map(_flat_character, text))


@cache
def _flat_character(character: str) -> str:
    plain = unicodedata.normalize("NFKC", character)
    plain = plain if len(plain) == 1 else character
    digit = unicodedata.decimal(plain, None)
    if digit is not None:
        return str(digit)
    return {"Zs": " ", "Pd": "-"}.get(unicodedata.category(plain), "-" if plain == "\N{MINUS SIGN}" else plain)


def _token_of(match: re.Match[str]) -> str:
    return f"[{(match['kind'] or match['bare']).upper()}-{match['number'] or match['count']}]"


def _merged(found: list[Span]) -> list[Span]:
    """Return spans in order; overlapping ones become one, so that nothing of either remains."""
    whole: list[Span] = []
    for start, end, kind in sorted(found, key=lambda span: (span[0], -span[1])):
        if whole and start < whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]), whole[-1][2])
        else:
            whole.append((start, end, kind))
    return whole


def _numbers(text: str, region: str) -> list[Span]:
    """Return the numbers to mask."""
    import phonenumbers  # noqa: PLC0415 - loaded where ENRICH_REDACT is on

    found: list[Span] = []
    for match in _NUMBER.finditer(text):
        if _YEARS.fullmatch(match[0]):
            continue
        known = list(_known(match[0], match.start()))
        long = sum(map(str.isdigit, match[0])) >= SHORTEST
        found += known or ([(*match.span(), "NUMBER")] if long else [])
    return found + [(match.start, match.end, "PHONE") for match in phonenumbers.PhoneNumberMatcher(text, region)]


def _known(run: str, offset: int) -> Iterator[Span]:
    """Yield the known numbers in a run of digits, longest first: people say several in a row."""
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
    from stdnum import luhn  # noqa: PLC0415 - loaded where ENRICH_REDACT is on

    digits = re.sub(r"\D", "", number)
    if re.fullmatch(r"[\d .-]+", number) and len(digits) in CARD_DIGITS and luhn.is_valid(digits):
        return "CARD"
    if sum(map(str.isalnum, number)) < SHORTEST:
        return None
    return "ID" if any(module.is_valid(number) for module in _modules()) else None


@cache
def _modules() -> tuple[Any, ...]:
    return tuple(importlib.import_module(f"stdnum.{name}") for name in IDS)
