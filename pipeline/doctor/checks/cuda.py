"""Check 2: both libraries of cuBLAS, in the version that the installed ctranslate2 opens, can be loaded."""

from __future__ import annotations

import os
from glob import escape, glob
from typing import List, Optional

from pipeline.doctor import libraries, shell
from pipeline.doctor.checks import loading
from pipeline.doctor.findings import Finding, finding
from pipeline.doctor.machine import Machine


def examine(machine: Machine) -> List[Finding]:
    """Find both libraries, read their headers, load them, and have ctranslate2 open them."""
    if machine.folder is None:
        return [
            finding(
                "build_missing", f"not in the import paths of {machine.target.python}", command=machine.requirements()
            )
        ]
    if machine.damage:
        command = machine.pip("--force-reinstall", "--no-deps", "ctranslate2>=4.8.1,<5")
        return [
            finding("build_damaged", machine.folder, problem=libraries.problem_text(machine.damage), command=command)
        ]
    wanted = machine.build
    if wanted is None or not wanted.cublas:
        command = machine.pip("--force-reinstall", "--no-deps", "ctranslate2>=4.8.1,<5")
        return [finding("build_without_cuda", wanted.core.path if wanted else machine.folder, command=command)]
    findings = [
        problem
        for library in machine.libraries
        if "cublas" in library.name
        for problem in check_files(machine, library, "library")
    ]
    if any(found.status == "fail" for found in findings):
        return findings
    return findings + try_loading(machine, "cublas", "library")


def check_files(machine: Machine, library: libraries.LibrarySearch, family: str) -> List[Finding]:
    """Return what is wrong with the files of a library; nothing if the first of them is usable."""
    kind = "cublas" if family == "library" else "cudnn"
    command = machine.cuda(kind)
    chosen = library.chosen
    if chosen is None:
        if not library.candidates:
            other = _other_major(machine, library.name)
            if other:
                code = f"{family}_wrong_major"
                return [finding(code, other, seen=os.path.basename(other), name=library.name, command=command)]
            folders = ", ".join(
                folder for folder, _ in libraries.folders(machine.target.paths) if os.path.isdir(folder)
            )
            return [finding(f"{family}_missing", f"searched {folders}", name=library.name, command=command)]
        first = library.candidates[0]
        if first.problem == "other_cuda":
            cuda = machine.build.cublas if machine.build else ""
            return [finding("cudnn_other_cuda", first.path, name=library.name, cuda=cuda, command=command)]
        values = {"name": library.name, "problem": libraries.problem_text(first.problem), "command": command}
        return [finding(f"{family}_damaged", first.path, **values)]
    before = library.candidates[: library.candidates.index(chosen)]
    return [
        finding(
            "library_passed_over",
            each.path,
            name=library.name,
            problem=libraries.problem_text(each.problem),
            path=shell.absolute(each.path),
        )
        for each in before
        if family == "library"
    ]


def try_loading(machine: Machine, kind: str, family: str) -> List[Finding]:
    """Load the libraries and return the result, with the name of the file that caused a failure."""
    result = loading.load(machine, kind)
    command = machine.cuda(kind)
    culprit = os.path.basename(result.culprit or "")
    if result.culprit and result.outcome.hung:
        ending = result.outcome.endings
        return [finding(f"{family}_hangs", result.culprit, name=culprit, ending=ending, command=command)]
    if not result.outcome.ok:
        name = culprit or kind
        if culprit == "cublasCreate_v2":
            name = f"libcublas.so.{machine.build.cublas if machine.build else ''}"
        evidence = f"{result.culprit}: {result.outcome.last_line}"
        code = f"{family}_hangs" if result.outcome.hung else f"{family}_kills"
        return [finding(code, evidence, name=name, ending=result.outcome.endings, command=command)]
    if result.errors:
        path, reason = next(iter(result.errors.items()))
        if path == "cublasCreate_v2":
            return [finding("library_not_opened", reason, name="cuBLAS", reason=reason, command=command)]
        name = os.path.basename(path)
        return [finding(f"{family}_refused", reason, name=name, reason=reason, command=command)]
    return [
        finding(f"{family}_loaded", path, name=os.path.basename(path))
        for path in result.versions
        if kind in os.path.basename(path)
    ]


def _other_major(machine: Machine, name: str) -> Optional[str]:
    """Return a file of the same library with another major version."""
    stem = name.rpartition(".")[0]
    for folder, _ in libraries.folders(machine.target.paths):
        found = sorted(glob(os.path.join(escape(folder), f"{stem}.*")))
        if found:
            return found[0]
    return None
