"""The guard under attack: prompts cut, sped up, slowed, drowned and broken up, the short look against the full window.

    python bench/engine_guard.py [--model bundled:tiny.en] [--prompts 300]

The engine's text of every attacked prompt is set beside that of the same engine with ENCODER_WINDOW=full. A *loop* is a
phrase that stands there more often in a row than the full window has it and than it was said; a *lost sentence* is a
place where the full window has at least four words more than the engine. Both must be none; the last line says so, and
the exit code. The word error rates against what was said, the engine's and the full window's, stand beside them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import re
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import prompts as speech
import structlog

from pipeline.transcribe import Engine, Options
from pipeline.transcribe.audio import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).resolve().parent / "results"
LOST = 4  # words in a run
# The prompts say many numbers, and one pass writes "4" where another writes "four": the same words.
DIGITS = {word: str(value) for value, word in enumerate("zero one two three four five six seven eight nine".split())}
RANDOM = np.random.default_rng(0)


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def _stretched(audio: np.ndarray, speed: float) -> np.ndarray:
    """Play faster or slower, pitch and all."""
    at = np.arange(0, len(audio) - 1, speed)
    return np.interp(at, np.arange(len(audio)), audio).astype(np.float32)


def _music(length: int) -> np.ndarray:
    time = np.arange(length) / SAMPLE_RATE
    chord = sum(np.sin(2 * np.pi * 220 * 2 ** (step / 12) * time) for step in (0, 4, 7))
    return (chord * (1 + np.sign(np.sin(4 * np.pi * time)))).astype(np.float32)


def _under(audio: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Lay something else under a voice, 10 dB softer."""
    return audio + other * np.float32(np.sqrt(np.mean(audio**2) / np.mean(other**2) / 10))


def _broken_up(audio: np.ndarray) -> np.ndarray:
    middle = len(audio) // 2
    return np.concatenate([_silence(2), audio[:middle], _silence(RANDOM.uniform(2, 6)), audio[middle:], _silence(3)])


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "cut at the end": lambda audio: audio[: int(len(audio) * 0.7)],
    "cut at the start": lambda audio: audio[int(len(audio) * 0.3) :],
    "1.3 times as fast": lambda audio: _stretched(audio, 1.3),
    "0.8 times as fast": lambda audio: _stretched(audio, 0.8),
    "in noise": lambda audio: _under(audio, RANDOM.normal(0, 1, len(audio)).astype(np.float32)),
    "over music": lambda audio: _under(audio, _music(len(audio))),
    "pauses of 2 to 6 s": _broken_up,
    "said twice": lambda audio: np.concatenate([audio, _silence(0.3), audio]),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One attacked prompt and what was made of it."""

    attack: str
    name: str
    said: str
    text: str
    full: str

    @property
    def looped(self) -> bool:
        """Whether a phrase is repeated more often than the full window has it, and than it was said."""
        ours, full, said = (_most_repeats(_words(text)) for text in (self.text, self.full, self.said))
        return ours > max(full, said)

    @property
    def lost(self) -> str:
        """The words of the full window where it has more than the engine; empty where there is no such place."""
        mine, theirs = _words(self.text), _words(self.full)
        for _, one, two, start, end in difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
            if (end - start) - (two - one) >= LOST:
                return " ".join(theirs[start:end])
        return ""


def _words(text: str) -> list[str]:
    """Return the words, numbers as digits; letters that are spelled out, as in M-I-S-D-N, are one."""
    spelled = re.sub(r"\b(\w)\W+(?=\w\b)", r"\1", text.lower())
    return [DIGITS.get(word, word) for word in re.findall(r"\w+", spelled)]


def _most_repeats(words: list[str]) -> int:
    """Return how often in a row the most repeated phrase stands there."""
    most = 1
    for size in range(1, len(words) // 2 + 1):
        for at in range(len(words) - size):
            times = 1
            while words[at + times * size : at + (times + 1) * size] == words[at : at + size]:
                times += 1
            most = max(most, times)
    return most


def _texts(model: str, audios: list[np.ndarray], encoder_window: str) -> list[str]:
    with Engine(model, device="cpu", encoder_window=encoder_window) as engine:
        return [one.text for one in engine.transcribe(audios, [Options(language="en")] * len(audios))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:tiny.en")
    parser.add_argument("--prompts", type=int, default=300)
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    items = [item for item in speech.prompts(seed=2) if not item.name.startswith("silence/")]
    # Round and round: a prompt that comes again meets the next attack.
    items = list(islice(cycle(items), args.prompts))
    names = [list(ATTACKS)[index % len(ATTACKS)] for index in range(len(items))]
    audios = [ATTACKS[name](item.audio) for name, item in zip(names, items, strict=True)]
    short, full = (_texts(args.model, audios, window) for window in ("auto", "full"))
    said = [" ".join([item.text] * (1 + (name == "said twice"))) for name, item in zip(names, items, strict=True)]
    cases = [Case(name, item.name, *texts) for name, item, *texts in zip(names, items, said, short, full, strict=True)]
    print("| attack | prompts | loops | lost | lost by the full window | WER | WER of the full window |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for attack in ATTACKS:
        mine = [case for case in cases if case.attack == attack]
        swapped = [Case(case.attack, case.name, case.said, case.full, case.text) for case in mine]
        references = [case.said for case in mine]
        row = {
            "attack": attack,
            "prompts": len(mine),
            "loops": sum(case.looped for case in mine),
            "lost": sum(bool(case.lost) for case in mine),
            "lost_by_full": sum(bool(case.lost) for case in swapped),
        }
        if not attack.startswith("cut"):  # of what was cut nobody knows the words
            row["wer"] = round(speech.wer(references, [case.text for case in mine]), 4)
            row["wer_full"] = round(speech.wer(references, [case.full for case in mine]), 4)
        rows.append(row)
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    bad = [case for case in cases if case.looped or case.lost]
    for case in bad:
        print(f"\n{case.name} ({case.attack})\n  short: {case.text}\n  full:  {case.full}")
    RESULTS.mkdir(exist_ok=True)
    record = {"model": args.model, "prompts": len(items), "rows": rows}
    file = RESULTS / f"engine-guard-{args.model.removeprefix('bundled:')}.json"
    file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    loops, lost = sum(case.looped for case in cases), sum(bool(case.lost) for case in cases)
    by_full = sum(row["lost_by_full"] for row in rows)
    held = not loops and not lost
    print(
        f"guard {args.model}: {loops} loops and {lost} lost sentences in {len(items)} attacks (the full window lost "
        f"{by_full}): " + ("the floor held" if held else "MISSED, none is the floor")
    )
    return 0 if held else 1


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    sys.exit(main())
