"""Check 5: the workers' Python is one that Voicemill supports, in a virtual environment, and the doctor's own."""

from __future__ import annotations

import os
import sys
from typing import List

from config.environment import ROOT
from pipeline.doctor.box import Box
from pipeline.doctor.findings import Finding, finding

LEAST, MOST = (3, 11), (3, 13)  # pyproject.toml, requires-python


def examine(box: Box) -> List[Finding]:
    """Judge the workers' Python by what it told of itself."""
    there = box.target
    make = box.install
    if not there.ok:
        outcome = there.outcome
        reason = (outcome.last or outcome.ending) if outcome else "not asked"
        return [finding("python_broken", there.python, reason=reason, command=f"rm -rf {ROOT}/.venv && {make}")]
    version = ".".join(map(str, there.version))
    findings = []
    evidence = f"{there.python}, import paths {', '.join(there.paths[-2:])}"
    if there.version[:2] < LEAST:
        install = box.apt("python3.11", "python3.11-venv")
        findings.append(finding("python_too_old", evidence, version=version, command=f"{install} && {make}"))
    elif there.version[:2] > MOST:
        findings.append(finding("python_too_new", evidence, version=version, command=f"PYTHON=python3.13 {make}"))
    if not there.virtual:
        command = f"{make} && . {ROOT}/.venv/bin/activate"
        findings.append(finding("python_no_venv", there.python, command=command))
    if os.path.abspath(there.python) != os.path.abspath(sys.executable or ""):
        command = f"{there.python} -m pipeline doctor"
        values = {"here": sys.executable, "there": there.python, "command": command}
        if os.path.realpath(there.python) != os.path.realpath(sys.executable or ""):
            findings.append(finding("python_other", "", **values))
    return findings or [finding("python_fit", evidence, version=version)]
