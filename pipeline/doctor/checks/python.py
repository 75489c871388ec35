"""Check 5: the workers' Python is a supported one, in a virtual environment, the doctor's own; their `.env` is read."""

from __future__ import annotations

import os
import sys
from typing import List

from config.environment import ROOT, DotenvError, dotenv
from pipeline.doctor import shell
from pipeline.doctor.box import Box
from pipeline.doctor.findings import Finding, finding

LEAST, MOST = (3, 11), (3, 13)  # pyproject.toml, requires-python


def examine(box: Box) -> List[Finding]:
    """Judge the workers' Python by what it told of itself, and the file of settings that it begins with."""
    findings = _dotenv()
    there = box.target
    make = box.install
    if not there.ok:
        outcome = there.outcome
        reason = (outcome.last or outcome.ending) if outcome else "not asked"
        command = f"{shell.command('rm', '-rf', ROOT / '.venv')} && {make}"
        return [*findings, finding("python_broken", there.python, reason=reason, command=command)]
    version = ".".join(map(str, there.version))
    evidence = f"{there.python}, import paths {', '.join(there.paths[-2:])}"
    if there.version[:2] < LEAST:
        findings.append(finding("python_too_old", evidence, version=version, command=make))
    elif there.version[:2] > MOST:
        findings.append(finding("python_too_new", evidence, version=version, command=make))
    if not there.virtual:
        command = f"{make} && {shell.command('.', ROOT / '.venv' / 'bin' / 'activate')}"
        findings.append(finding("python_no_venv", there.python, command=command))
    if os.path.abspath(there.python) != os.path.abspath(sys.executable or ""):
        values = {"here": sys.executable, "there": there.python, "command": box.pipeline("doctor")}
        if os.path.realpath(there.python) != os.path.realpath(sys.executable or ""):
            findings.append(finding("python_other", "", **values))
    return findings or [finding("python_fit", evidence, version=version)]


def _dotenv() -> List[Finding]:
    try:
        dotenv()
    except DotenvError as error:
        return [finding("env_file_unreadable", "", reason=error, file=ROOT / ".env")]
    return []
