"""Judge what a real model heard by bounds that hold on any processor.

int8 arithmetic rounds differently with each instruction set, so neither exact words nor exact times are the same
everywhere.
"""

from __future__ import annotations

import os

import jiwer

SAMPLE = (  # what is said in samples/voice-message.ogg
    "Good morning. Please move our meeting with the design team to Friday and send me the slides before noon. "
    "Thank you very much."
)
# Spoken by espeak-ng's voice en-us at 140 words a minute, these are understood by tiny.en with a margin: noise, half
# the volume and a shift by some samples change two words at most.
SENTENCES = (
    "Please move our meeting with the design team to Thursday morning.",
    "It has been raining for a week and the river is very high.",
    "The children are playing football in the garden behind the school.",
    "Thank you for your help with the computer this morning.",
    "I will send you the report as soon as the manager has signed it.",
)
SENTENCE = SENTENCES[0]
GERMAN = "Guten Morgen, ich komme heute etwas später ins Büro."  # the same for base and the voice de
# The environment variables with which MKL and CTranslate2 choose their arithmetic. A test that starts a process with
# an environment of its own passes them on.
ARITHMETIC = ("MKL_ENABLE_INSTRUCTIONS", "CT2_USE_MKL", "CT2_FORCE_CPU_ISA")

_NORMAL = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def word_error_rate(heard: str, said: str) -> float:
    """Return the word error rate of a transcript, ignoring case and punctuation; 1.0 for an empty transcript."""
    return jiwer.wer(said, heard, reference_transform=_NORMAL, hypothesis_transform=_NORMAL)


def character_error_rate(heard: str, said: str) -> float:
    """Return the character error rate of a transcript."""
    return jiwer.cer(said, heard)


def chosen_arithmetic() -> dict[str, str]:
    """Return the variables of `ARITHMETIC` that are set."""
    return {name: os.environ[name] for name in ARITHMETIC if name in os.environ}
