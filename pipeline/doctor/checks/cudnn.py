"""Check 3: cuDNN, where the installed ctranslate2 uses it: all parts, whole, of one version, for the right CUDA."""

from __future__ import annotations

import os
import re
from typing import Dict, List

from pipeline.doctor import shell
from pipeline.doctor.box import Box
from pipeline.doctor.checks import cuda, loading
from pipeline.doctor.findings import FAIL, Finding, finding


def examine(box: Box) -> List[Finding]:
    """Say that it is not used, or find its parts and load them in order."""
    wanted = box.build
    if wanted is None:
        return [
            finding(
                "not_needed",
                why=("no working ctranslate2 that could use it (check 2)", "사용할 ctranslate2가 없음(점검 2)"),
            )
        ]
    if not wanted.cudnn:
        return [finding("cudnn_not_used", wanted.core.path, version=wanted.version)]
    parts = [library for library in box.libraries if "cudnn" in library.name]
    findings = [problem for library in parts for problem in cuda.judge(box, library, "cudnn")]
    findings += _duplicates(box)
    if any(found.status == FAIL for found in findings):
        return findings
    result = loading.load(box, "cudnn")
    versions = {
        os.path.basename(path): version or _in_name(path)
        for path, version in result.versions.items()
        if "cudnn" in os.path.basename(path)
    }
    told = {name: version for name, version in versions.items() if version}
    if len(set(told.values())) > 1:
        text = ", ".join(f"{name} {version}" for name, version in told.items())
        return [*findings, finding("cudnn_mixed", str(result.versions), versions=text, command=box.cuda("cudnn"))]
    if result.misfits:
        name = os.path.basename(result.misfits[0])
        words = (f"{name} says that the others are not of its own", f"{name}이(가) 다른 파일과 맞지 않음")
        return [*findings, finding("cudnn_mixed", result.misfits[0], versions=words, command=box.cuda("cudnn"))]
    return findings + cuda.prove(box, "cudnn", "cudnn")


def _duplicates(box: Box) -> List[Finding]:
    """Name cuDNN's other copies: today's passed-over file is tomorrow's mix of versions."""
    folders: Dict[str, str] = {}
    for library in box.libraries:
        if "cudnn" in library.name:
            for candidate in library.candidates:
                folders.setdefault(os.path.dirname(os.path.realpath(candidate.path)), candidate.origin)
    if len(folders) < 2:
        return []
    first, *rest = [f"{folder} ({origin})" for folder, origin in folders.items()]
    others = [f"{shell.command(folder)} ({origin})" for folder, origin in folders.items()][1:]
    return [finding("cudnn_duplicates", "; ".join([first, *rest]), chosen=first, others=", ".join(others))]


def _in_name(path: str) -> int:
    """Return the version in a file's full name, as cudnnGetVersion counts: 9.1.2 is 90102, 8.9.7 is 8907."""
    match = re.search(r"\.so\.(\d+)\.(\d+)\.(\d+)$", os.path.realpath(path))
    if not match:
        return 0
    major, minor, patch = map(int, match.groups())
    return major * 10000 + minor * 100 + patch if major >= 9 else major * 1000 + minor * 100 + patch
