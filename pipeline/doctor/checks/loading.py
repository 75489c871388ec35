"""What checks 2 and 3 share: the libraries of a build are loaded one by one in a process that may die of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple, cast

from pipeline.doctor import child, ladder
from pipeline.doctor.box import Box

TIMEOUT = 20.0  # seconds; cuDNN's engines are half a gigabyte on a disk that may be slow
HANG = 6.0  # seconds for cuBLAS, which is asked while the driver is

# Loads each file globally and asks each part of cuDNN whether those that it depends on are of its own version: of 9,
# one part alone tells its number. Then it lets ctranslate2's own library open them by its own way: its lazy loader of
# cuBLAS is behind the exported cublasCreate_v2, which answers 1 where there is no GPU, its shim of cuDNN behind
# cudnnCreate.
_CHILD = """
import ctypes, json, os, re, sys
core, shim, files = sys.argv[1], sys.argv[2], sys.argv[3:]
def tell(*words):
    print(json.dumps(words), flush=True)
for path in files:
    tell("load", path)
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        version = 0
        if "cudnn" in os.path.basename(path) and hasattr(library, "cudnnGetVersion"):
            library.cudnnGetVersion.restype = ctypes.c_size_t
            version = library.cudnnGetVersion()
        tell("loaded", path, version)
    except OSError as error:
        tell("refused", path, str(error))
        sys.exit()
for path in files:
    part = re.match(r"libcudnn_(\\w+)\\.so", os.path.basename(path))
    if part:
        name = "cudnn" + "".join(word.title() for word in part.group(1).split("_")) + "VersionCheck"
        check = getattr(ctypes.CDLL(path), name, None)
        if check:
            tell("check", path)
            tell("checked", path, check())
for path, function in ((core, "cublasCreate_v2"), (shim, "cudnnCreate")):
    if path:
        tell("open", function)
        try:
            opened = getattr(ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL), function, None)
            handle = ctypes.c_void_p()
            tell("opened", function, opened(ctypes.byref(handle)) if opened else None)
        except OSError as error:
            tell("refused", function, str(error))
"""


@dataclass(frozen=True)
class Loading:
    """How the loading went.

    `versions` holds the cuDNN version by file, 0 where the file does not tell; `misfits` are parts of cuDNN that
    say themselves that the others are of another version; `refused` the loader's reason by file or function; `culprit`
    the file or function after which the process was never heard of again.
    """

    outcome: child.Outcome
    versions: Dict[str, int]
    misfits: List[str]
    refused: Dict[str, str]
    culprit: Optional[str]


def load(box: Box, kind: str) -> Loading:
    """Load the chosen files of `kind` (cublas or cudnn), those of cuBLAS always first; once a visit."""
    return cast("Loading", box.once(f"loading {kind}", lambda: _load(box, kind)))


def _load(box: Box, kind: str) -> Loading:
    wanted = box.build
    assert wanted is not None  # noqa: S101 - the callers have looked
    files = [library.chosen.path for library in box.libraries if library.chosen]
    if kind == "cublas":
        files = [path for path in files if "cublas" in os.path.basename(path)]
    shim = wanted.shim or "" if kind == "cudnn" else ""
    core = wanted.core.path if kind == "cublas" else ""
    outcome = child.python(
        _CHILD, core, shim, *files, timeout=HANG if kind == "cublas" else TIMEOUT, interpreter=box.target.python
    )
    told: List[Tuple[str, ...]] = [
        tuple(json.loads(line)) for line in outcome.out.splitlines() if line.startswith('["')
    ]
    for words in told:
        ladder.tell("loading", "%s", " ".join(map(str, words)))
    ladder.tell("loading", "%s", outcome.ending)
    last = told[-1] if told else ("", "")
    return Loading(
        outcome=outcome,
        versions={words[1]: int(words[2]) for words in told if words[0] == "loaded"},
        misfits=[words[1] for words in told if words[0] == "checked" and words[2]],
        refused={words[1]: words[2] for words in told if words[0] == "refused"},
        culprit=last[1] if not outcome.ok and last[0] in ("load", "check", "open") else None,
    )


def works(box: Box) -> bool:
    """Tell whether all that the build wants is there and loads."""
    wanted = box.build
    if not wanted or not wanted.cublas or not all(library.chosen for library in box.libraries):
        return False
    results = [load(box, kind) for kind in ("cublas", "cudnn") if kind == "cublas" or wanted.cudnn]
    return all(result.outcome.ok and not result.refused and not result.misfits for result in results)
