"""The engine with other arithmetic than this processor's own: int8 rounds differently with each instruction set.

`make drill-engine` runs all of the engine's tests this way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hearing import SAMPLE, SENTENCE, word_error_rate

from pipeline.transcribe.audio import load

pytestmark = [pytest.mark.model, pytest.mark.processes]

CLONE = Path(__file__).parents[3]
RATE = 16_000
PROGRAM = """
import json
import sys

import numpy as np

from pipeline.transcribe import Engine

if __name__ == "__main__":
    with Engine("bundled:tiny.en", device="cpu", replicas=1, compute_type=sys.argv[1]) as engine:
        transcripts = engine.transcribe([np.load(name) for name in sys.argv[2:]])
    print(json.dumps([[[each.start, each.end, each.text] for each in found.segments] for found in transcripts]))
"""


@pytest.fixture(scope="module")
def clips(speak, tmp_path_factory):
    """The sample, and a sentence that is said twice with a long pause: a file each."""
    folder = tmp_path_factory.mktemp("clips")
    sentence = speak(SENTENCE)
    np.save(folder / "sample.npy", load(CLONE / "samples" / "voice-message.ogg"))
    np.save(folder / "twice.npy", np.concatenate([sentence, np.zeros(60 * RATE, np.float32), sentence]))
    return [folder / "sample.npy", folder / "twice.npy"], 60 + len(sentence) / RATE


@pytest.mark.parametrize(
    ("variables", "compute_type"),
    [
        ({"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, "int8"),
        ({"MKL_ENABLE_INSTRUCTIONS": "AVX512"}, "int8"),
        ({"CT2_USE_MKL": "0"}, "int8"),
        ({}, "float32"),
    ],
    ids=["AVX2", "AVX512 without VNNI", "oneDNN", "float32"],
)
def test_text_and_times_hold_with_other_arithmetic(clips, tmp_path, variables, compute_type):
    files, second_at = clips
    (tmp_path / "program.py").write_text(PROGRAM)
    ran = subprocess.run(
        [sys.executable, tmp_path / "program.py", compute_type, *files],
        env=os.environ | {"PYTHONPATH": str(CLONE), "CT2_VERBOSE": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stderr
    assert f"Selected compute type: {compute_type}" in ran.stderr
    if variables.get("CT2_USE_MKL") == "0":
        assert "Use Intel MKL: true" not in ran.stderr
    sample, twice = json.loads(ran.stdout.splitlines()[-1])
    assert word_error_rate(" ".join(text for _, _, text in sample), SAMPLE) < 0.3
    assert sample[0][0] < 1.0
    assert sample[-1][1] == pytest.approx(9.1, abs=1.0)
    first = [segment for segment in twice if segment[0] < second_at / 2]
    for segments, said_at in ((first, 0.0), (twice[len(first) :], second_at)):
        assert word_error_rate(" ".join(text for _, _, text in segments), SENTENCE) < 0.4
        assert segments[0][0] == pytest.approx(said_at, abs=1.0)
        assert segments[-1][1] - segments[0][0] < 6
