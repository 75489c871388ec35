"""Check 2: cuBLAS, both halves, of the version that the installed ctranslate2 opens; proven by opening it."""

from __future__ import annotations

import os
from glob import escape, glob
from typing import List, Optional

from pipeline.doctor import libraries, shell
from pipeline.doctor.box import Box
from pipeline.doctor.checks import loading
from pipeline.doctor.findings import Finding, finding


def examine(box: Box) -> List[Finding]:
    """Find both libraries, read them, load them, and let ctranslate2 open them."""
    if box.folder is None:
        return [finding("build_missing", f"not in the import paths of {box.target.python}", command=box.requirements())]
    if box.damage:
        command = box.pip("--force-reinstall", "--no-deps", "ctranslate2>=4.8.1,<5")
        return [finding("build_damaged", box.folder, problem=libraries.words(box.damage), command=command)]
    wanted = box.build
    if wanted is None or not wanted.cublas:
        command = box.pip("--force-reinstall", "--no-deps", "ctranslate2>=4.8.1,<5")
        return [finding("build_without_cuda", wanted.core.path if wanted else box.folder, command=command)]
    findings = [
        problem for library in box.libraries if "cublas" in library.name for problem in judge(box, library, "library")
    ]
    if any(found.status == "fail" for found in findings):
        return findings
    return findings + prove(box, "cublas", "library")


def judge(box: Box, library: libraries.Found, family: str) -> List[Finding]:
    """Return what is wrong with the files of a library; nothing where the first of them will do."""
    kind = "cublas" if family == "library" else "cudnn"
    command = box.cuda(kind)
    chosen = library.chosen
    if chosen is None:
        if not library.candidates:
            other = _other_major(box, library.name)
            if other:
                code = f"{family}_wrong_major"
                return [finding(code, other, seen=os.path.basename(other), name=library.name, command=command)]
            folders = ", ".join(folder for folder, _ in libraries.folders(box.target.paths) if os.path.isdir(folder))
            return [finding(f"{family}_missing", f"looked in {folders}", name=library.name, command=command)]
        first = library.candidates[0]
        if first.problem == "other_cuda":
            cuda = box.build.cublas if box.build else ""
            return [finding("cudnn_other_cuda", first.path, name=library.name, cuda=cuda, command=command)]
        values = {"name": library.name, "problem": libraries.words(first.problem), "command": command}
        return [finding(f"{family}_damaged", first.path, **values)]
    before = library.candidates[: library.candidates.index(chosen)]
    return [
        finding(
            "library_passed_over",
            each.path,
            name=library.name,
            problem=libraries.words(each.problem),
            path=shell.absolute(each.path),
        )
        for each in before
        if family == "library"
    ]


def prove(box: Box, kind: str, family: str) -> List[Finding]:
    """Load the libraries and say how that ended, with the culprit's name."""
    result = loading.load(box, kind)
    command = box.cuda(kind)
    culprit = os.path.basename(result.culprit or "")
    if result.culprit and result.outcome.hung:
        ending = result.outcome.words
        return [finding(f"{family}_hangs", result.culprit, name=culprit, ending=ending, command=command)]
    if not result.outcome.ok:
        name = culprit or kind
        if culprit == "cublasCreate_v2":
            name = f"libcublas.so.{box.build.cublas if box.build else ''}"
        evidence = f"{result.culprit}: {result.outcome.last}"
        code = f"{family}_hangs" if result.outcome.hung else f"{family}_kills"
        return [finding(code, evidence, name=name, ending=result.outcome.words, command=command)]
    if result.refused:
        path, reason = next(iter(result.refused.items()))
        if path == "cublasCreate_v2":
            return [finding("library_not_opened", reason, name="cuBLAS", reason=reason, command=command)]
        name = os.path.basename(path)
        return [finding(f"{family}_refused", reason, name=name, reason=reason, command=command)]
    return [
        finding(f"{family}_loaded", path, name=os.path.basename(path))
        for path in result.versions
        if kind in os.path.basename(path)
    ]


def _other_major(box: Box, name: str) -> Optional[str]:
    """Return a file of the same library in another major version."""
    stem = name.rpartition(".")[0]
    for folder, _ in libraries.folders(box.target.paths):
        found = sorted(glob(os.path.join(escape(folder), f"{stem}.*")))
        if found:
            return found[0]
    return None
