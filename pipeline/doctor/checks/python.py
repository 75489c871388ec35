"""Check 5: the workers' Python is supported, in a virtual environment and the doctor's own; `.env` is readable."""

from __future__ import annotations

import os
import sys
from typing import List

from config.environment import ROOT, DotenvError, dotenv
from pipeline.doctor import shell
from pipeline.doctor.findings import Finding, finding
from pipeline.doctor.machine import Machine

MIN_VERSION, MAX_VERSION = (3, 11), (3, 13)  # pyproject.toml, requires-python


def examine(machine: Machine) -> List[Finding]:
    """Check the workers' Python and whether `.env` is readable."""
    findings = _dotenv()
    there = machine.target
    make = machine.install
    if not there.ok:
        outcome = there.outcome
        reason = (outcome.last_line or outcome.ending) if outcome else "not queried"
        command = f"{shell.command('rm', '-rf', os.path.join(machine.root, '.venv'))} && {make}"
        return [*findings, finding("python_broken", there.python, reason=reason, command=command)]
    version = ".".join(map(str, there.version))
    evidence = f"{there.python}, import paths {', '.join(there.paths[-2:])}"
    if there.version[:2] < MIN_VERSION:
        findings.append(finding("python_too_old", evidence, version=version, command=make))
    elif there.version[:2] > MAX_VERSION:
        findings.append(finding("python_too_new", evidence, version=version, command=make))
    if not there.virtual:
        command = f"{make} && {shell.command('.', os.path.join(machine.root, '.venv', 'bin', 'activate'))}"
        findings.append(finding("python_no_venv", there.python, command=command))
    if os.path.abspath(there.python) != os.path.abspath(sys.executable or ""):
        values = {"here": sys.executable, "there": there.python, "command": machine.pipeline("doctor")}
        if os.path.realpath(there.python) != os.path.realpath(sys.executable or ""):
            findings.append(finding("python_other", "", **values))
    return findings or [finding("python_fit", evidence, version=version)]


def _dotenv() -> List[Finding]:
    try:
        dotenv()
    except DotenvError as error:
        return [finding("env_file_unreadable", "", reason=error, file=ROOT / ".env")]
    return []
