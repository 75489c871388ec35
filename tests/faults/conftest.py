"""The doctor runs once on each machine of the catalogue, three at a time; a table of results is printed at the end."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from catalogue import CASES, MODEL, packages_path
from tables import LINES
from world import CLONE


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Return the folder of all machines and of the clone; its name has characters that are special to a shell."""
    root = tmp_path_factory.mktemp("machines") / "o'brien's [voice] mill"
    clone = root / "clone"
    for name in ("pipeline", "config", "voicemill", "scripts"):
        shutil.copytree(CLONE / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in [CLONE / "pyproject.toml", *CLONE.glob("requirements*.txt")]:
        shutil.copy(file, clone)
    (clone / ".venv").symlink_to(sys.prefix)
    return root


@pytest.fixture(scope="session")
def verdicts(root, request):
    """Return the doctor's exit code and report for each machine of the catalogue, by name."""
    tiny = packages_path() / MODEL / "model"

    def examine(case):
        machine = case.make(root / case.name.replace(" ", "-")[:80], tiny)
        machine.python = str(root / "clone" / ".venv" / "bin" / "python")
        return case.name, machine.doctor()

    with ThreadPoolExecutor(3) as pool:
        found = dict(pool.map(examine, CASES))
    table = request.config.stash[LINES].setdefault("the fault catalogue: machine, exit code, finding, remedy", [])
    for case in CASES:
        findings = [each for check in found[case.name][1]["checks"] for each in check["findings"]]
        named = next((each for each in findings if each["code"] == case.code), None)
        shown = named or next((each for each in findings if each["status"] in ("fail", "crash")), {"code": "healthy"})
        code, fix = found[case.name][0], shown.get("fix", "")
        table.append(f"{case.name:<70} {code} {shown['code']:<28} {fix[:90]}")
    return found
