"""The doctor's report: checks with their findings, and its JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from pipeline.doctor.findings import CHECKS, CODES, FAIL, PASS, SEVERITY, Finding

TROUBLESHOOTING = "docs/troubleshooting.md"


@dataclass(frozen=True)
class Check:
    """The result of one of the eight checks."""

    id: str
    findings: Tuple[Finding, ...]
    seconds: float = 0.0

    @property
    def number(self) -> int:
        """The position among the checks, from 1."""
        return list(CHECKS).index(self.id) + 1

    @property
    def status(self) -> str:
        """The status of the worst finding."""
        return max((finding.status for finding in self.findings), key=SEVERITY.index, default=PASS)


@dataclass(frozen=True)
class Report:
    """The results of all checks. `device` is the requested one."""

    device: str
    checks: Tuple[Check, ...]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no check failed or crashed."""
        return all(SEVERITY.index(check.status) < SEVERITY.index(FAIL) for check in self.checks)

    @property
    def problems(self) -> List[Finding]:
        """Every finding that did not pass, the worst first."""
        found = [finding for check in self.checks for finding in check.findings if finding.status not in (PASS, "skip")]
        return sorted(found, key=lambda finding: -SEVERITY.index(finding.status))

    def check(self, name: str) -> Check:
        """Return the check with this id."""
        return next(check for check in self.checks if check.id == name)

    def as_dict(self, language: str = "en") -> Dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "ok": self.ok,
            "device": self.device,
            "seconds": round(self.seconds, 2),
            "checks": [
                {
                    "number": check.number,
                    "id": check.id,
                    "status": check.status,
                    "findings": [
                        {
                            "code": finding.code,
                            "status": finding.status,
                            "message": finding.message(language),
                            "evidence": finding.evidence,
                            "fix": finding.fix(language) if CODES[finding.code].status not in (PASS, "skip") else "",
                        }
                        for finding in check.findings
                    ],
                }
                for check in self.checks
            ],
        }
