"""The engine in a program of somebody else's, as docs/library.md shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).parents[3]
GUARD = 'if __name__ == "__main__":'


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "transcribe.py"
    file.write_text(program.replace('"bundled:tiny.en"', '"bundled:tiny.en", device="cpu", replicas=1'))
    return subprocess.run(
        [sys.executable, file, CLONE / "samples/voice-message.ogg"],
        env=os.environ | {"PYTHONPATH": str(CLONE)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def example() -> str:
    [program] = re.findall(r"```python\n(.*?)```", (CLONE / "docs/library.md").read_text(), re.DOTALL)
    assert GUARD in program
    return str(program)


def test_the_example_of_the_page_transcribes_without_redis(tmp_path):
    ran = run(example(), tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "Good morning. Please move our meeting" in ran.stdout
    assert re.search(r"^ +7\.\d\d +9\.\d\d Thank you very much\.$", ran.stdout, re.MULTILINE)


def test_a_program_that_lacks_its_guard_is_told_of_it(tmp_path):
    ran = run(example().replace(GUARD, "if True:"), tmp_path)

    assert ran.returncode == 1
    assert GUARD.rstrip(":") in ran.stderr.splitlines()[-1]
