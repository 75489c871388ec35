"""The speech that the benchmarks measure on: Asterisk's English prompts, a human speaker at 8 kHz, with their text.

They are CC-BY-SA and are installed, never copied into this repository: `make bench` does.
"""

from __future__ import annotations

import gzip
import sys
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.transcribe.audio import SAMPLE_RATE, load

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
INSTALL = "sudo apt-get install -y --no-install-recommends asterisk-core-sounds-en asterisk-core-sounds-en-wav"
FEWEST_WORDS = 3  # below, one wrong word says little

_NORMAL = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: float32 audio at 16 kHz and what the speaker says in it."""

    name: str
    audio: np.ndarray
    text: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.audio) / SAMPLE_RATE


def prompts(count: int | None = None, seed: int = 0) -> list[Prompt]:
    """Return `count` usable prompts (None: all), shuffled by `seed`; ends the program where none are installed."""
    if not SOUNDS.is_dir() or not TEXTS.is_file():
        sys.exit(f"The prompts are not installed: {INSTALL}")
    texts: dict[str, str] = {}
    with gzip.open(TEXTS, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, colon, text = line.partition(":")
            usable = colon and not line.startswith(";") and "[" not in text and len(text.split()) >= FEWEST_WORDS
            if usable and (SOUNDS / f"{name.strip()}.wav").is_file():
                texts[name.strip()] = text.strip()
    names = sorted(texts)
    np.random.RandomState(seed).shuffle(names)
    return [Prompt(name, load(SOUNDS / f"{name}.wav"), texts[name]) for name in names[:count]]


def joined(parts: list[Prompt], seconds: float, pause: float = 0.7) -> Prompt:
    """Return one long message: prompts in turn, `pause` seconds between them, until it lasts `seconds`."""
    gap, audio, text, length = np.zeros(int(pause * SAMPLE_RATE), np.float32), [], [], 0
    while length < seconds * SAMPLE_RATE:
        part = parts[len(text) % len(parts)]
        audio += [part.audio, gap]
        text.append(part.text)
        length += len(part.audio) + len(gap)
    return Prompt("joined", np.concatenate(audio), " ".join(text))


def words_wrong(references: list[str], hypotheses: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each text, how many words are wrong and how many the reference has."""
    wrong, total = [], []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        found = jiwer.process_words(
            reference, hypothesis or " ", reference_transform=_NORMAL, hypothesis_transform=_NORMAL
        )
        wrong.append(found.substitutions + found.deletions + found.insertions)
        total.append(found.hits + found.substitutions + found.deletions)
    return np.array(wrong), np.array(total)


def wer(references: list[str], hypotheses: list[str]) -> float:
    """Return the word error rate over all texts, 0 to 1 and more."""
    wrong, total = words_wrong(references, hypotheses)
    return float(wrong.sum() / total.sum())


def interval(wrong: np.ndarray, other: np.ndarray, total: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of `wrong`'s word error rate less `other`'s, by paired bootstrap over the texts."""
    draws = np.random.default_rng(0).integers(0, len(total), (10_000, len(total)))
    difference = (wrong - other)[draws].sum(1) / total[draws].sum(1)
    low, high = np.percentile(difference, [2.5, 97.5])
    return float(low), float(high)
