"""Check 6: what each stage requires is installed, at versions that fit together."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from pipeline.doctor import target
from pipeline.doctor.box import Box
from pipeline.doctor.findings import Finding, finding

STACK_REFUSED = (2, 41)  # glibc that no longer loads a library which asks for an executable stack


def examine(box: Box) -> List[Finding]:
    """Compare what is installed with pyproject.toml, then with what the installed packages say of each other."""
    there = box.target
    if not there.ok:
        return [
            finding(
                "not_needed",
                why=("the workers' Python does not run (check 5)", "워커의 파이썬이 실행되지 않음(점검 5)"),
            )
        ]
    findings: Dict[str, Finding] = {}
    stages = [box.stage] if box.stage else list(target.STAGES)
    count = 0
    for stage in stages:
        for wanted in target.requirements(stage, there.version):
            count += 1
            who = ("a backend", "백엔드") if stage == "backend" else (f"the stage {stage}", f"{stage} 단계")
            _judge(box, wanted, who, findings)
    for name, installed in there.packages.items():
        if installed and name in _reachable(box, stages):
            for line in installed[1]:
                inner = target.parse(line, there.version)
                if inner:
                    _judge(box, inner, (name, name), findings)
    result = list(findings.values())
    build = box.build
    if build and build.core.executable_stack and box.stage in (None, "transcribe"):
        glibc = ".".join(map(str, there.libc))
        code = "executable_stack" if there.libc >= STACK_REFUSED else "executable_stack_later"
        command = box.pip("ctranslate2>=4.8.1,<5")
        result.append(finding(code, build.core.path, glibc=glibc, version=build.version, command=command))
    if any(found.status == "fail" for found in result):
        return result
    return [*result, finding("packages_fit", there.python, count=count, stages=", ".join(stages))]


def _judge(box: Box, wanted: target.Requirement, needed_by: Tuple[str, str], findings: Dict[str, Finding]) -> None:
    installed = box.target.packages.get(wanted.name)
    if wanted.name in findings:
        return
    if installed is None:
        values: Dict[str, Any] = {"package": wanted.name, "needed_by": needed_by, "wanted": str(wanted)}
        findings[wanted.name] = finding("package_missing", "", **values, command=box.requirements())
    elif not wanted.accepts(installed[0]):
        values = {"package": wanted.name, "needed_by": needed_by, "wanted": str(wanted), "version": installed[0]}
        command = box.pip(str(wanted))
        findings[wanted.name] = finding("package_unfit", f"{wanted.name} {installed[0]}", **values, command=command)


def _reachable(box: Box, stages: List[str]) -> "set[str]":
    """Return the packages that the stages require, directly or not."""
    left = [wanted.name for stage in stages for wanted in target.requirements(stage, box.target.version)]
    seen = set()
    while left:
        name = left.pop()
        installed = box.target.packages.get(name)
        if name not in seen and installed:
            seen.add(name)
            left += [inner.name for inner in (target.parse(line, box.target.version) for line in installed[1]) if inner]
    return seen
