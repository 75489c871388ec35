"""The requirements of the installed CTranslate2, read from its own files, so that no list of builds is needed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from glob import escape, glob
from typing import List, Optional, Sequence, Tuple

from pipeline.doctor import elf

# The convolutions of Whisper's encoder, the only user of cuDNN, need these; `adv` and `train` serve other networks.
CUDNN = {
    8: ("libcudnn_ops_infer.so.8", "libcudnn_cnn_infer.so.8"),
    9: (
        "libcudnn_graph.so.9",
        "libcudnn_ops.so.9",
        "libcudnn_engines_precompiled.so.9",
        "libcudnn_heuristic.so.9",
        "libcudnn_cnn.so.9",
    ),
}
# CUDA release that brought each version of the PTX language (PTX ISA, "Release Notes").
PTX_CUDA = {(8, 5): (12, 5), (8, 6): (12, 7), (8, 7): (12, 8), (8, 8): (12, 9)}
# First Linux driver of each CUDA release (CUDA Toolkit Release Notes, table 3).
DRIVERS = {
    (11, 0): 450, (11, 2): 460, (11, 8): 520, (12, 0): 525, (12, 1): 530, (12, 2): 535, (12, 3): 545, (12, 4): 550,
    (12, 5): 555, (12, 6): 560, (12, 7): 565, (12, 8): 570, (12, 9): 575, (13, 0): 580,
}  # fmt: skip


@dataclass(frozen=True)
class Build:
    """An installed CTranslate2.

    `cublas` and `cudnn` are the major versions that it opens at run time, None if it uses none. `shim` is the cuDNN
    entry library that old wheels contain.
    """

    version: str
    folder: str
    core: elf.Library
    cublas: Optional[int]
    cudnn: Optional[int]
    shim: Optional[str]

    @property
    def cuda(self) -> Tuple[int, int]:
        """The CUDA release whose driver can compile this build's PTX; (major, 0) if it contains no PTX."""
        version = self.core.ptx_version
        if version == (0, 0):
            return (self.cublas or 0, 0)
        # CUDA 11.x brought PTX 7.x and 12.0–12.4 brought 8.0–8.4; then the two drifted apart.
        return PTX_CUDA.get(version, (version[0] + 4, version[1]))

    @property
    def wanted(self) -> List[str]:
        """File names of the required libraries, in loading order."""
        names = [f"libcublasLt.so.{self.cublas}", f"libcublas.so.{self.cublas}"] if self.cublas else []
        return names + list(CUDNN.get(self.cudnn or 0, ()))

    def runs_as_machine_code(self, capability: Tuple[int, int]) -> bool:
        """Return whether the build contains machine code for a GPU of this compute capability."""
        return any(major == capability[0] and minor <= capability[1] for major, minor in self.core.machine_code)

    def runs_as_ptx(self, capability: Tuple[int, int]) -> bool:
        """Return whether a driver that is new enough can compile the build's PTX for this compute capability."""
        return any(ptx <= capability for ptx in self.core.ptx)


def driver(cuda: Tuple[int, int]) -> int:
    """Return the version of the first Linux driver of a CUDA release."""
    known = [release for release in DRIVERS if release <= cuda]
    return DRIVERS[max(known)] if known else 450


def locate(paths: Sequence[str]) -> Optional[str]:
    """Return the folder of the package `ctranslate2` that a Python with these import paths imports."""
    for path in paths:
        folder = os.path.join(path or ".", "ctranslate2")
        if os.path.isfile(os.path.join(folder, "__init__.py")):
            return folder
    return None


def read(folder: str, find: Optional[Sequence[str]] = None) -> Optional[Build]:
    """Read the build in a package folder; return None if its native library is not found.

    Args:
        folder: the folder of the package `ctranslate2`.
        find: additional folders to search for libctranslate2, for builds that do not come from a wheel.

    Raises:
        elf.Damaged: the library is damaged.
        OSError: it cannot be read.
    """
    libs = os.path.join(os.path.dirname(folder), "ctranslate2.libs")
    cores: List[str] = []
    for place in [libs, folder, *(find or [])]:
        cores += sorted(glob(os.path.join(escape(place), "libctranslate2*.so*")))
    if not cores:
        return None
    core = elf.read(cores[0])
    shims = sorted(glob(os.path.join(escape(libs), "libcudnn*.so*")))
    opened = set(core.opened) | set(core.needed)
    cudnn = _major("cudnn", [name for name in opened if "-" not in name])
    if shims and cudnn is None:
        cudnn = _major("cudnn", [re.sub(r"-[0-9a-f]+", "", os.path.basename(shims[0]))])
    return Build(
        version=_version(folder),
        folder=folder,
        core=core,
        cublas=_major("cublas", opened),
        cudnn=cudnn,
        shim=shims[0] if shims else None,
    )


def _major(name: str, libraries: "Sequence[str] | set[str]") -> Optional[int]:
    found = [re.match(rf"lib{name}[a-zA-Z_]*\.so\.(\d+)", library) for library in libraries]
    majors = [int(match.group(1)) for match in found if match]
    return max(majors) if majors else None


def _version(folder: str) -> str:
    try:
        with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
            match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", file.read())
    except OSError:
        return "unknown"
    return match.group(1) if match else "unknown"
