"""What a sender may ask of the model for one message."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ("transcribe", "translate")


@dataclass(frozen=True, slots=True)
class Options:
    """The wishes for one message; those left at None are the engine's to decide."""

    language: str | None = None  # code such as "ko"; None: detected
    task: str = "transcribe"  # or "translate", into English
    prompt: str | None = None  # text that the model takes for what was said before
    hotwords: str | None = None  # words to be expected
    word_timestamps: bool = False

    beam_size: int | None = None  # of the second look at a doubtful window; None: the engine's
    no_speech_threshold: float = 0.6  # OpenAI's: above it, and with improbable words, a window counts as silence
    max_duration: float | None = None  # seconds; a longer message fails with `too_long`
