"""`docs/troubleshooting.md`, made of the table of findings: what the doctor says and what the pages say are one."""

from __future__ import annotations

from pipeline.doctor.findings import CHECKS, CODES, PASS, SKIP

_HEAD = """# Troubleshooting

What `python -m pipeline doctor` can find, by its code. The doctor fills in what stands in braces, `{command}` being the
command that mends it on that very machine. This page is made of `pipeline/doctor/findings.py` by
`python -m pipeline doctor --document > docs/troubleshooting.md`.
"""


def document() -> str:
    """Return the page: an entry for each code that needs a remedy."""
    lines = [_HEAD]
    for check, names in [("any", ("Any check", "모든 점검")), *CHECKS.items()]:
        lines += [f"## {names[0]} · {names[1]}", ""]
        for code, kind in CODES.items():
            if kind.check != check or kind.status in (PASS, SKIP):
                continue
            lines += [
                f"### {code}",
                "",
                f"*{kind.status}* · {_sentence(kind.message[0])}. {kind.fix[0]}",
                "",
                f"{_sentence(kind.message[1])}. {kind.fix[1]}",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
