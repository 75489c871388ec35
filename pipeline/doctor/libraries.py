"""Where CUDA's libraries are, and their loading by full path: nobody has to set LD_LIBRARY_PATH.

Libraries lie where pip puts them (site-packages/nvidia/*/lib), where apt does, in LD_LIBRARY_PATH, or inside another
package such as torch. Once one is loaded globally, whoever asks the loader for its name gets that one.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from glob import escape, glob
from typing import Dict, List, Optional, Sequence, Tuple

from pipeline.doctor import build, elf

VOLUME = "/workspace"  # the persistent disk of a RunPod machine
LDCONFIG_TIMEOUT = 2.0  # seconds; it prints a cache


# What may be wrong with a file that bears a library's name, in words of Korean
PROBLEMS = {
    "empty": "비어 있음",
    "truncated": "잘림",
    "foreign": "다른 프로세서용",
    "not_elf": "라이브러리 파일이 아님",
    "other_version": "다른 버전",
    "other_cuda": "다른 CUDA용",
    "unreadable": "읽을 수 없음",
    "missing": "없음",
}


def words(problem: Optional[str]) -> Tuple[str, str]:
    """Return a problem in words of English and of Korean."""
    return (problem or "").replace("_", " "), PROBLEMS.get(problem or "", problem or "")


@dataclass(frozen=True)
class Candidate:
    """A file that bears the name of a wanted library; `problem` says why it will not do, None where it will.

    `origin` is `LD_LIBRARY_PATH`, `pip`, `torch` or `system`; problems are those of `elf.Damaged`, `unreadable`, or
    `other_cuda` for a cuDNN that was built for another major version of CUDA.
    """

    path: str
    origin: str
    problem: Optional[str] = None


@dataclass(frozen=True)
class Found:
    """A wanted library with all the files that bear its name, in the order in which they are looked at."""

    name: str
    candidates: Tuple[Candidate, ...]

    @property
    def chosen(self) -> Optional[Candidate]:
        """The first that will do."""
        return next((candidate for candidate in self.candidates if candidate.problem is None), None)


def folders(paths: Sequence[str]) -> List[Tuple[str, str]]:
    """Return the folders in which libraries are looked for, in order, each with its origin.

    Args:
        paths: the import paths of the Python that will load them.
    """
    found = [(folder, "LD_LIBRARY_PATH") for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    for path in paths:
        if os.path.isdir(os.path.join(path or ".", "nvidia")):
            found += [(folder, "pip") for folder in sorted(glob(os.path.join(escape(path), "nvidia", "*", "lib")))]
    for path in paths:
        found += [(folder, "torch") for folder in glob(os.path.join(escape(path), "torch", "lib"))]
    machine = platform.machine()
    system = [f"/lib/{machine}-linux-gnu", f"/usr/lib/{machine}-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib"]
    system += sorted(glob("/usr/local/cuda*/lib64"), reverse=True)
    system += sorted(glob(f"/usr/local/cuda-*/targets/{machine}-linux/lib"), reverse=True)  # cuBLAS alone, by apt
    return found + [(folder, "system") for folder in system]


def find(wanted: build.Build, paths: Sequence[str]) -> List[Found]:
    """Return each library that a build wants with the files that bear its name."""
    cache = _cache()
    places = folders(paths)
    found = []
    for name in wanted.wanted:
        files = [(os.path.join(folder, name), origin) for folder, origin in places]
        files += [(path, "system") for path in cache.get(name, [])]
        seen: Dict[str, Candidate] = {}
        for path, origin in files:
            real = os.path.realpath(path)
            if real not in seen and os.path.lexists(path):
                seen[real] = Candidate(path, origin, _problem(path, wanted))
        found.append(Found(name, tuple(seen.values())))
    return found


def preload() -> List[str]:
    """Load the CUDA libraries that the installed CTranslate2 opens at run time, by full path and for all to see.

    Returns:
        The files, in the order of their loading; none where nothing is wanted or found: what is missing then shows when
        CTranslate2 asks for it, and the doctor names it.
    """
    folder = build.locate(sys.path)
    wanted = build.read(folder) if folder else None
    if wanted is None:
        return []
    if os.path.isdir(VOLUME):  # what a new GPU compiles once, in up to minutes, outlives the pod
        os.environ.setdefault("CUDA_CACHE_PATH", os.path.join(VOLUME, "cuda-cache"))
    files = [library.chosen.path for library in find(wanted, sys.path) if library.chosen]
    for file in files:
        ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
    return files


def _problem(path: str, wanted: build.Build) -> Optional[str]:
    """Return why a file cannot be the library that its name promises."""
    try:
        elf.check(path)
        name = os.path.basename(path)
        if "cudnn" in name and "engines" not in name:  # the engines are half a gigabyte and name no library
            return _other_cuda(path, wanted)
        library_major = re.search(r"\.so\.(\d+)", name)
        soname_major = re.search(r"\.so\.(\d+)", elf.read(path, deep=False).soname) if "cublas" in name else None
    except elf.Damaged as error:
        return error.kind
    except OSError:
        return "unreadable"
    if soname_major and library_major and soname_major.group(1) != library_major.group(1):
        return "other_version"
    return None


def _other_cuda(path: str, wanted: build.Build) -> Optional[str]:
    library = elf.read(path)
    for name in (*library.needed, *library.opened):
        match = re.match(r"libcublas(?:Lt)?\.so\.(\d+)", name)
        if match and int(match.group(1)) != wanted.cublas:
            return "other_cuda"
    return None


def _cache() -> Dict[str, List[str]]:
    """Return the loader's cache: files by name."""
    found: Dict[str, List[str]] = {}
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"):
        with suppress(OSError, subprocess.SubprocessError):
            text = subprocess.run(  # noqa: S603 - a program of the system
                [program, "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LDCONFIG_TIMEOUT, check=True
            ).stdout.decode("utf-8", "replace")
            for line in text.splitlines():
                name, arrow, path = line.strip().partition(" => ")
                if arrow:
                    found.setdefault(name.split(" ")[0], []).append(path)
            break
    return found
