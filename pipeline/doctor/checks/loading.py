"""Loading the libraries of a build one by one in a child process, since one may kill it; for checks 2 and 3."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple, cast

from pipeline.doctor import child, steps
from pipeline.doctor.machine import Machine

TIMEOUT = 20.0  # seconds; cuDNN's engines have half a gigabyte, and the disk may be slow
HANG = 6.0  # seconds for cuBLAS, which is loaded while the driver is queried

# Loads each file globally. Each part of cuDNN then checks the versions of those that it depends on, since only one part
# of cuDNN 9 reports its version. Last, ctranslate2's own library opens them: its exported cublasCreate_v2, whose result
# is 1 without a GPU, triggers the lazy loader of cuBLAS, and cudnnCreate the cuDNN shim.
_CHILD = """
import ctypes, json, os, re, sys
core, shim, files = sys.argv[1], sys.argv[2], sys.argv[3:]
def report(*words):
    print(json.dumps(words), flush=True)
for path in files:
    report("load", path)
    try:
        library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        version = 0
        if "cudnn" in os.path.basename(path) and hasattr(library, "cudnnGetVersion"):
            library.cudnnGetVersion.restype = ctypes.c_size_t
            version = library.cudnnGetVersion()
        report("loaded", path, version)
    except OSError as error:
        report("refused", path, str(error))
        sys.exit()
for path in files:
    part = re.match(r"libcudnn_(\\w+)\\.so", os.path.basename(path))
    if part:
        name = "cudnn" + "".join(word.title() for word in part.group(1).split("_")) + "VersionCheck"
        check = getattr(ctypes.CDLL(path), name, None)
        if check:
            report("check", path)
            report("checked", path, check())
for path, function in ((core, "cublasCreate_v2"), (shim, "cudnnCreate")):
    if path:
        report("open", function)
        try:
            opened = getattr(ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL), function, None)
            handle = ctypes.c_void_p()
            report("opened", function, opened(ctypes.byref(handle)) if opened else None)
        except OSError as error:
            report("refused", function, str(error))
"""


@dataclass(frozen=True)
class LoadResult:
    """The result of loading the libraries.

    `versions` holds the cuDNN version by file, 0 if the file does not report one; `mismatched` are parts of cuDNN that
    found another version among the others; `errors` are those of the loader by file or function; `culprit` is the file
    or function at which the process died or hung.
    """

    outcome: child.ProcessResult
    versions: Dict[str, int]
    mismatched: List[str]
    errors: Dict[str, str]
    culprit: Optional[str]


def load(machine: Machine, kind: str) -> LoadResult:
    """Load the chosen files of `kind` (cublas or cudnn) once, those of cuBLAS always first."""
    return cast("LoadResult", machine.once(f"loading {kind}", lambda: _load(machine, kind)))


def _load(machine: Machine, kind: str) -> LoadResult:
    wanted = machine.build
    assert wanted is not None  # noqa: S101 - the callers check
    files = [library.chosen.path for library in machine.libraries if library.chosen]
    if kind == "cublas":
        files = [path for path in files if "cublas" in os.path.basename(path)]
    shim = wanted.shim or "" if kind == "cudnn" else ""
    core = wanted.core.path if kind == "cublas" else ""
    outcome = child.python(
        _CHILD, core, shim, *files, timeout=HANG if kind == "cublas" else TIMEOUT, interpreter=machine.target.python
    )
    events: List[Tuple[str, ...]] = [
        tuple(json.loads(line)) for line in outcome.out.splitlines() if line.startswith('["')
    ]
    for words in events:
        steps.log("loading", "%s", " ".join(map(str, words)))
    steps.log("loading", "%s", outcome.ending)
    last = events[-1] if events else ("", "")
    return LoadResult(
        outcome=outcome,
        versions={words[1]: int(words[2]) for words in events if words[0] == "loaded"},
        mismatched=[words[1] for words in events if words[0] == "checked" and words[2]],
        errors={words[1]: words[2] for words in events if words[0] == "refused"},
        culprit=last[1] if not outcome.ok and last[0] in ("load", "check", "open") else None,
    )


def all_load(machine: Machine) -> bool:
    """Return whether all libraries that the build requires are found and load."""
    wanted = machine.build
    if not wanted or not wanted.cublas or not all(library.chosen for library in machine.libraries):
        return False
    results = [load(machine, kind) for kind in ("cublas", "cudnn") if kind == "cublas" or wanted.cudnn]
    return all(result.outcome.ok and not result.errors and not result.mismatched for result in results)
