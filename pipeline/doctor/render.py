"""The report as text: a table in English or Korean, in colour on terminals that support it."""

from __future__ import annotations

import os
import unicodedata
from typing import Dict, List, TextIO

from pipeline.doctor.findings import CHECKS, CODES, LANGUAGES, PASS, SKIP
from pipeline.doctor.report import TROUBLESHOOTING, Report

_COLOURS = {"pass": "32", "warn": "33", "fail": "31;1", "crash": "35;1", "skip": "2"}  # SGR codes
_WORDS: Dict[str, Dict[str, str]] = {
    "en": {"pass": "pass", "warn": "warn", "fail": "FAIL", "crash": "CRASH", "skip": "skip"},
    "ko": {"pass": "통과", "warn": "경고", "fail": "실패", "crash": "오류", "skip": "건너뜀"},
}
_CLOSING = {
    "en": ("All checks passed.", "Ready to run, with warnings.", "Not ready: {count} failed.", "More"),
    "ko": (
        "모두 정상입니다.",
        "실행할 수 있습니다. 경고를 확인하세요.",
        "실행할 수 없습니다: {count} 실패.",
        "자세히",
    ),
}


def has_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal with colours and `NO_COLOR` (no-color.org) is not set."""
    return (
        stream is not None
        and stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in ("", "dumb")
    )


def text(report: Report, language: str = "en", *, colours: bool = False, verbose: bool = False) -> str:
    """Return the report as a table of checks with their findings and fixes."""
    words = _WORDS[language]
    lines: List[str] = []
    width = max(_width(names[LANGUAGES.index(language)]) for names in CHECKS.values())
    mark = max(_width(word) for word in words.values())
    for check in report.checks:
        name = CHECKS[check.id][LANGUAGES.index(language)]
        worst = [found for found in check.findings if found.status == check.status] or list(check.findings)
        first = worst[0].message(language) if worst else ""
        state = _paint(_pad(words[check.status], mark), check.status, colours)
        lines.append(f" {check.number}  {_pad(name, width)}  {state}  {first}".rstrip())
        listed = [*worst, *[each for each in check.findings if each not in worst]]
        for index, found in enumerate(listed):
            indent = " " * (width + mark + 8)
            quiet = found.status in (PASS, SKIP)
            if index and (not quiet or verbose or check.status in (PASS, SKIP)):
                lines.append(f"{indent}{found.message(language)}")
            if not quiet and found.code in CODES:
                if found.evidence:
                    lines.append(f"{indent}{_paint(found.evidence, SKIP, colours)}")
                same = index + 1 < len(listed) and listed[index + 1].fix(language) == found.fix(language)
                if found.fix(language) and not same:  # a fix that several findings share is printed once
                    lines.append(f"{indent}→ {found.fix(language)}")
            elif verbose and found.evidence:
                lines.append(f"{indent}{_paint(found.evidence, SKIP, colours)}")
    failed = sum(check.status in ("fail", "crash") for check in report.checks)
    closing = _CLOSING[language]
    verdict = (
        closing[2].replace("{count}", _count(failed, language)) if failed else closing[1 if report.problems else 0]
    )
    lines += ["", _paint(verdict, "fail" if failed else "warn" if report.problems else "pass", colours)]
    codes = list(dict.fromkeys(found.code for found in report.problems))
    if codes:
        lines.append(f"{closing[3]}: " + ", ".join(f"{TROUBLESHOOTING}#{code}" for code in codes))
    return "\n".join(lines) + "\n"


def _count(checks: int, language: str) -> str:
    return f"점검 {checks}개" if language == "ko" else f"{checks} check{'s' * (checks > 1)}"


def _paint(words: str, status: str, colours: bool) -> str:
    return f"\x1b[{_COLOURS[status]}m{words}\x1b[0m" if colours else words


def _width(words: str) -> int:
    """Return the columns that a text takes on a terminal; Korean syllables take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in words)


def _pad(words: str, width: int) -> str:
    return words + " " * (width - _width(words))
