"""The Python of the workers, which may differ from the doctor's: it is queried in a child process."""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

from config.environment import ROOT
from pipeline.doctor import child

TIMEOUT = 15.0  # seconds; reading the metadata of a hundred packages from a cold disk is slow
STAGES = ("decode", "transcribe", "enrich", "backend")

# Prints facts about the interpreter, and the version and requirements of each package that is reachable from the names
# in its arguments.
_CHILD = """
import json, os, platform, sys, sysconfig
seen, left = {}, list(sys.argv[1:])
if left:
    import re
    from importlib import metadata
while left:
    name = left.pop()
    if name in seen:
        continue
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        seen[name] = None
        continue
    wanted = [line for line in found.requires or [] if "extra ==" not in line and "extra==" not in line]
    seen[name] = [found.version, wanted]
    left += [re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", line).group()).lower() for line in wanted]
print(json.dumps({"version": platform.python_version(), "prefix": sys.prefix, "base": sys.base_prefix,
                  "managed": os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")),
                  "paths": sys.path[1:], "libc": platform.libc_ver()[1], "packages": seen}))
"""


@dataclass(frozen=True)
class Requirement:
    """A package with its accepted versions, such as `>=4.8.1,<5`."""

    name: str
    versions: str

    def __str__(self) -> str:
        return self.name + self.versions

    def accepts(self, version: str) -> bool:
        """Return whether a version is accepted; specifiers that are not understood accept any."""
        have = numbers(version)
        for operator, text in re.findall(r"(~=|===?|!=|<=|>=|<|>)\s*([^\s,]+)", self.versions):
            want = numbers(text.replace(".*", ""))
            width = max(len(have), len(want))
            a, b = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
            prefix = have[: len(want)] == want
            fits = {
                "==": prefix if text.endswith(".*") else a == b,
                "===": a == b,
                "!=": not prefix if text.endswith(".*") else a != b,
                "~=": a >= b and have[: len(want) - 1] == want[:-1],
                "<=": a <= b,
                ">=": a >= b,
                "<": a < b,
                ">": a > b,
            }[operator]
            if not fits:
                return False
        return True


@dataclass(frozen=True)
class Target:
    """The workers' Python; `outcome` is the result of the process that queried it.

    `managed`: the system's package manager owns it, and pip refuses to install into it (PEP 668). `packages` holds
    version and requirements by name, None for a package that is not installed; `paths` are its import paths.
    """

    python: str
    outcome: Optional[child.ProcessResult]
    version: Tuple[int, ...] = ()
    virtual: bool = False
    managed: bool = False
    paths: Tuple[str, ...] = ()
    libc: Tuple[int, ...] = ()
    packages: Dict[str, Optional[Tuple[str, Tuple[str, ...]]]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it runs."""
        return bool(self.version)


def numbers(version: str) -> Tuple[int, ...]:
    """Return the leading numbers of a version."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version.strip())
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def choose(wanted: Optional[str] = None) -> str:
    """Return the workers' Python: `wanted`, else ours if in a virtual environment, the clone's, or the active one's."""
    if wanted:
        return shutil.which(wanted) or wanted
    if sys.prefix != sys.base_prefix:
        return sys.executable
    clone = os.path.join(str(ROOT), ".venv", "bin", "python")
    active = os.path.join(os.environ.get("VIRTUAL_ENV", ""), "bin", "python")
    for python in (clone, active if os.environ.get("VIRTUAL_ENV") else ""):
        if python and os.path.exists(python):
            return python
    return sys.executable or "python3"


def query(python: str, *, packages: bool = True) -> Target:
    """Query a Python and, if `packages`, which of the stages' packages it has."""
    names: List[str] = []
    with suppress(OSError):  # an incomplete clone without pyproject.toml, which check 6 reports
        names = sorted({each.name for stage in STAGES for each in requirements(stage)}) if packages else []
    try:
        outcome = child.python(_CHILD, *names, timeout=TIMEOUT, interpreter=python)
    except OSError as error:
        return Target(python, child.ProcessResult(127, "", str(error), 0.0))
    seen = outcome.reply
    if not outcome.ok or seen is None:
        return Target(python, outcome)
    return Target(
        python=python,
        outcome=outcome,
        version=numbers(seen["version"]),
        virtual=seen["prefix"] != seen["base"],
        managed=seen.get("managed", False),
        paths=tuple(path for path in seen["paths"] if path != str(ROOT)),
        libc=numbers(seen["libc"]),
        packages={name: (pair[0], tuple(pair[1])) if pair else None for name, pair in seen["packages"].items()},
    )


def requirements(stage: Optional[str], python: Sequence[int] = sys.version_info[:2]) -> List[Requirement]:
    """Return the requirements in `pyproject.toml` of a stage, or of all; parsed by hand, since 3.10 has no tomllib."""
    with open(os.path.join(str(ROOT), "pyproject.toml"), encoding="utf-8", errors="replace") as file:
        text = file.read()
    found: List[Requirement] = []
    for name in ["dependencies", *([stage] if stage else STAGES)]:
        block = re.search(rf"^{name}\s*=\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
        for line in re.findall(r"^\s*\"([^\"]+)\"", block.group(1), re.MULTILINE) if block else []:
            requirement = parse(line, python)
            if requirement and requirement not in found:
                found.append(requirement)
    return found


def parse(line: str, python: Sequence[int]) -> Optional[Requirement]:
    """Parse a requirement; return None if its marker does not apply or is not understood."""
    text, _, marker = line.partition(";")
    match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?([^)]*)\)?", text)
    if not match:
        return None
    if marker:
        condition = re.match(r"\s*python_version\s*(\S+)\s*['\"]([\d.]+)['\"]\s*$", marker)
        here = ".".join(str(part) for part in python[:2])
        if not condition or not Requirement("python", "".join(condition.groups())).accepts(here):
            return None
    name = re.sub(r"[-_.]+", "-", match.group(1)).lower()
    return Requirement(name, match.group(2).replace(" ", ""))
