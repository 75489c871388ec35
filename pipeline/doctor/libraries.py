"""Finding the CUDA libraries and loading them by full path, so that nobody has to set LD_LIBRARY_PATH.

Libraries are installed by pip (site-packages/nvidia/*/lib) or apt, are in LD_LIBRARY_PATH, or inside another package
such as torch. Once a library is loaded globally, the loader uses it for everyone who opens it by name.
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
LDCONFIG_TIMEOUT = 2.0  # seconds; it only prints a cache

# Problems of a library file, with their Korean text
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


def problem_text(problem: Optional[str]) -> Tuple[str, str]:
    """Return the text of a problem in English and in Korean."""
    return (problem or "").replace("_", " "), PROBLEMS.get(problem or "", problem or "")


@dataclass(frozen=True)
class Candidate:
    """A file with the name of a required library; `problem` is why it cannot be used, None if it can.

    `origin` is `LD_LIBRARY_PATH`, `pip`, `torch` or `system`; problems are those of `elf.Damaged`, `unreadable`,
    `other_version`, or `other_cuda` for a cuDNN that was built for another major version of CUDA.
    """

    path: str
    origin: str
    problem: Optional[str] = None


@dataclass(frozen=True)
class LibrarySearch:
    """A required library and all files with its name, in search order."""

    name: str
    candidates: Tuple[Candidate, ...]

    @property
    def chosen(self) -> Optional[Candidate]:
        """The first usable file."""
        return next((candidate for candidate in self.candidates if candidate.problem is None), None)


def folders(paths: Sequence[str]) -> List[Tuple[str, str]]:
    """Return the folders that are searched for libraries, in order, each with its origin.

    Args:
        paths: the import paths of the Python that loads them.
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


def find(wanted: build.Build, paths: Sequence[str]) -> List[LibrarySearch]:
    """Return each library that a build requires, with the files found for it."""
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
        found.append(LibrarySearch(name, tuple(seen.values())))
    return found


def preload() -> List[str]:
    """Load the CUDA libraries that the installed CTranslate2 opens at run time, globally and by full path.

    Returns:
        The files in loading order. Libraries that are missing are left out: CTranslate2 fails when it opens them, and
        the doctor reports them.
    """
    folder = build.locate(sys.path)
    wanted = build.read(folder) if folder else None
    if wanted is None:
        return []
    if os.path.isdir(VOLUME):  # keep compiled code, which takes up to minutes to make, beyond the pod
        os.environ.setdefault("CUDA_CACHE_PATH", os.path.join(VOLUME, "cuda-cache"))
    files = [library.chosen.path for library in find(wanted, sys.path) if library.chosen]
    for file in files:
        ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
    return files


def _problem(path: str, wanted: build.Build) -> Optional[str]:
    """Return why a file is not the library that its name says; None if it is."""
    try:
        elf.check(path)
        name = os.path.basename(path)
        if "cudnn" in name and "engines" not in name:  # the engines have half a gigabyte and name no library
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
    """Return the files in the loader's cache, by library name."""
    found: Dict[str, List[str]] = {}
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig", "ldconfig"):
        with suppress(OSError, subprocess.SubprocessError):
            text = subprocess.run(  # noqa: S603 - a system program
                [program, "-p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LDCONFIG_TIMEOUT, check=True
            ).stdout.decode("utf-8", "replace")
            for line in text.splitlines():
                name, arrow, path = line.strip().partition(" => ")
                if arrow:
                    found.setdefault(name.split(" ")[0], []).append(path)
            break
    return found
