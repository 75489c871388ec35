"""Whether every format is understood as well as the WAV: word error rates of one voice in the whole corpus.

    python bench/decode_corpus.py [SECONDS]     of speech (60); the table, and a verdict in its last line; exits 1 when
                                                a format is more than 5 points worse than the WAV

The corpus is that of the tests, two encoders or two bit rates a format, and what sox writes. A human speaks, but in
AMR-WB, which no program here can write: its samples are espeak-ng's voice, which tiny.en does not understand at 8 kHz.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import wave
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "integration" / "decode"))

import corpus
import numpy as np
import structlog

from bench import prompts
from config.settings import Settings
from pipeline.decode import decode
from pipeline.transcribe import Engine, Options
from pipeline.transcribe.audio import SAMPLE_RATE, load

WORST = 0.05  # word error rate that a format may lie above the WAV's


def main() -> int:
    if not shutil.which("sox"):
        sys.exit("sox is not installed: sudo apt-get install -y --no-install-recommends sox")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    spoken = prompts.joined(prompts.prompts(40), float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
    with (
        Engine("bundled:tiny.en", device="cpu", replicas=2) as engine,
        tempfile.TemporaryDirectory(prefix="voicemill-bench-") as name,
    ):
        missed = compare(engine, Path(name), spoken)
    print(f"FAILED: {', '.join(missed)}" if missed else f"PASSED: every format is within {WORST:.0%} of the WAV")
    return 1 if missed else 0


def compare(engine: Engine, media: Path, spoken: prompts.Prompt) -> list[str]:
    """Print each format's word error rate and return those that miss the mark."""
    voices = {"human": (save(spoken.audio, media / "human.wav"), spoken.text)}
    voices["synthetic"] = (corpus.speak(media / "synthetic.wav"), corpus.SENTENCE)
    wav = {kind: heard(engine, media, path.name, text) for kind, (path, text) in voices.items()}
    print(f"{'format':<26}{'WER':>7}{'of the WAV':>12}")
    missed = []
    for name in (*corpus.FFMPEG, *corpus.SOX, *corpus.WIDE):
        kind = "synthetic" if name in corpus.WIDE else "human"
        path, text = voices[kind]
        corpus.encode(path, media, name)
        rate = heard(engine, media, name, text)
        good = rate <= wav[kind] + WORST
        missed += [] if good else [name]
        print(f"{name:<26}{rate:>7.3f}{wav[kind]:>12.3f}{'' if good else '  MISSED'}", flush=True)
    return missed


def save(audio: np.ndarray, path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((audio * 32767).astype("<i2").tobytes())
    return path


def heard(engine: Engine, media: Path, name: str, text: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        made = decode(name, Path(folder), Settings(media_root=str(media)))
        found = engine.submit(load(made.path), Options(language="en")).result(300).text
    return prompts.wer([text], [found])


if __name__ == "__main__":
    sys.exit(main())
