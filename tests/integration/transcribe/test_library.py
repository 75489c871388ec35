"""The engine in a program of somebody else's, as docs/library.md shows it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hearing import SAMPLE, word_error_rate

pytestmark = [pytest.mark.model, pytest.mark.processes]

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
    segments = re.findall(r"^ +(\d+\.\d\d) +(\d+\.\d\d) (\S.*)$", ran.stdout, re.MULTILINE)
    text = " ".join(words for _, _, words in segments)
    assert text in ran.stdout.splitlines()
    assert word_error_rate(text, SAMPLE) < 0.3
    starts, ends = ([float(segment[place]) for segment in segments] for place in (0, 1))
    assert starts == sorted(starts)
    assert 0 <= starts[0] < 1
    assert 8 < ends[-1] < 10  # the speaker ends at 9.1 s


def test_a_program_without_its_main_guard_gets_the_reason(tmp_path):
    ran = run(example().replace(GUARD, "if True:"), tmp_path)

    assert ran.returncode == 1
    assert GUARD.rstrip(":") in ran.stderr.splitlines()[-1]
