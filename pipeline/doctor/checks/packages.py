"""Check 6: the packages that each stage requires are installed, in compatible versions."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from pipeline.doctor import target
from pipeline.doctor.findings import Finding, finding
from pipeline.doctor.machine import Machine

NO_EXECUTABLE_STACK = (2, 41)  # first glibc that does not load a library which requires an executable stack


def examine(machine: Machine) -> List[Finding]:
    """Compare the installed packages with pyproject.toml, then with each other's requirements."""
    there = machine.target
    if not there.ok:
        return [
            finding(
                "not_needed",
                why=("the workers' Python does not run (check 5)", "워커의 파이썬이 실행되지 않음(점검 5)"),
            )
        ]
    findings: Dict[str, Finding] = {}
    stages = [machine.stage] if machine.stage else list(target.STAGES)
    count = 0
    for stage in stages:
        for wanted in target.requirements(stage, there.version):
            count += 1
            who = ("a backend", "백엔드") if stage == "backend" else (f"the stage {stage}", f"{stage} 단계")
            _judge(machine, wanted, who, findings)
    for name, installed in there.packages.items():
        if installed and name in _reachable(machine, stages):
            for line in installed[1]:
                inner = target.parse(line, there.version)
                if inner:
                    _judge(machine, inner, (name, name), findings)
    result = list(findings.values())
    build = machine.build
    if build and build.core.executable_stack and machine.stage in (None, "transcribe"):
        glibc = ".".join(map(str, there.libc))
        code = "executable_stack" if there.libc >= NO_EXECUTABLE_STACK else "executable_stack_later"
        command = machine.pip("ctranslate2>=4.8.1,<5")
        result.append(finding(code, build.core.path, glibc=glibc, version=build.version, command=command))
    if any(found.status == "fail" for found in result):
        return result
    return [*result, finding("packages_fit", there.python, count=count, stages=", ".join(stages))]


def _judge(
    machine: Machine, wanted: target.Requirement, needed_by: Tuple[str, str], findings: Dict[str, Finding]
) -> None:
    installed = machine.target.packages.get(wanted.name)
    if wanted.name in findings:
        return
    if installed is None:
        values: Dict[str, Any] = {"package": wanted.name, "needed_by": needed_by, "wanted": str(wanted)}
        findings[wanted.name] = finding("package_missing", "", **values, command=machine.requirements())
    elif not wanted.accepts(installed[0]):
        values = {"package": wanted.name, "needed_by": needed_by, "wanted": str(wanted), "version": installed[0]}
        command = machine.pip(str(wanted))
        findings[wanted.name] = finding("package_unfit", f"{wanted.name} {installed[0]}", **values, command=command)


def _reachable(machine: Machine, stages: List[str]) -> "set[str]":
    """Return the packages that the stages require, directly or not."""
    left = [wanted.name for stage in stages for wanted in target.requirements(stage, machine.target.version)]
    seen = set()
    while left:
        name = left.pop()
        installed = machine.target.packages.get(name)
        if name not in seen and installed:
            seen.add(name)
            left += [
                inner.name for inner in (target.parse(line, machine.target.version) for line in installed[1]) if inner
            ]
    return seen
