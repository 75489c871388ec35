"""Check 3: if the installed ctranslate2 uses cuDNN, all parts are intact, of one version and for the right CUDA."""

from __future__ import annotations

import os
import re
from typing import Dict, List

from pipeline.doctor import shell
from pipeline.doctor.checks import cuda, loading
from pipeline.doctor.findings import FAIL, Finding, finding
from pipeline.doctor.machine import Machine


def examine(machine: Machine) -> List[Finding]:
    """Find the parts of cuDNN and load them in order, if the build uses it."""
    wanted = machine.build
    if wanted is None:
        return [
            finding(
                "not_needed",
                why=("ctranslate2 is missing or damaged (check 2)", "ctranslate2가 없거나 손상됨(점검 2)"),
            )
        ]
    if not wanted.cudnn:
        return [finding("cudnn_not_used", wanted.core.path, version=wanted.version)]
    parts = [library for library in machine.libraries if "cudnn" in library.name]
    findings = [problem for library in parts for problem in cuda.check_files(machine, library, "cudnn")]
    findings += _duplicates(machine)
    if any(found.status == FAIL for found in findings):
        return findings
    result = loading.load(machine, "cudnn")
    versions = {
        os.path.basename(path): version or _in_name(path)
        for path, version in result.versions.items()
        if "cudnn" in os.path.basename(path)
    }
    known = {name: version for name, version in versions.items() if version}
    if len(set(known.values())) > 1:
        text = ", ".join(f"{name} {version}" for name, version in known.items())
        return [*findings, finding("cudnn_mixed", str(result.versions), versions=text, command=machine.cuda("cudnn"))]
    if result.mismatched:
        name = os.path.basename(result.mismatched[0])
        versions_text = (f"{name} does not match the others", f"{name}이(가) 나머지 파일과 맞지 않음")
        return [
            *findings,
            finding("cudnn_mixed", result.mismatched[0], versions=versions_text, command=machine.cuda("cudnn")),
        ]
    return findings + cuda.try_loading(machine, "cudnn", "cudnn")


def _duplicates(machine: Machine) -> List[Finding]:
    """Report additional copies of cuDNN, which may become a mix of versions after the next upgrade."""
    folders: Dict[str, str] = {}
    for library in machine.libraries:
        if "cudnn" in library.name:
            for candidate in library.candidates:
                folders.setdefault(os.path.dirname(os.path.realpath(candidate.path)), candidate.origin)
    if len(folders) < 2:
        return []
    first, *rest = [f"{folder} ({origin})" for folder, origin in folders.items()]
    others = [f"{shell.command(folder)} ({origin})" for folder, origin in folders.items()][1:]
    return [finding("cudnn_duplicates", "; ".join([first, *rest]), chosen=first, others=", ".join(others))]


def _in_name(path: str) -> int:
    """Return the version in a file's full name as cudnnGetVersion encodes it: 9.1.2 is 90102, 8.9.7 is 8907."""
    match = re.search(r"\.so\.(\d+)\.(\d+)\.(\d+)$", os.path.realpath(path))
    if not match:
        return 0
    major, minor, patch = map(int, match.groups())
    return major * 10000 + minor * 100 + patch if major >= 9 else major * 1000 + minor * 100 + patch
