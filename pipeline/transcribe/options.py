"""What a sender may ask of the model for one message, and what is refused before any work is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.bounds import BEAMS
from voicemill import options as wishes
from voicemill.errors import ErrorCode, JobError

if TYPE_CHECKING:
    from pipeline.transcribe.child import SlotInfo

SHARED = ("language", "task", "prompt", "hotwords", "word_timestamps")  # with `decode.send()`, which refuses the same


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


def check(options: Options, duration: float, slot: SlotInfo) -> None:
    """Refuse what the loaded model cannot do for a message of `duration` seconds.

    Raises:
        JobError: `too_long` or `invalid_options`.
    """
    wishes.parse({name: getattr(options, name) for name in SHARED})
    beams, limit = options.beam_size, options.max_duration
    for name, good, takes in (
        ("beam_size", beams is None or (type(beams) is int and 1 <= beams <= BEAMS), f"1 to {BEAMS}, or None"),
        ("no_speech_threshold", isinstance(options.no_speech_threshold, int | float), "a number"),
        ("max_duration", limit is None or isinstance(limit, int | float), "seconds, or None"),
    ):
        if not good:
            shown = wishes.shown(getattr(options, name))
            raise JobError(ErrorCode.INVALID_OPTIONS, f"{name} is {shown}: it takes {takes}")
    if limit is not None and duration > limit:
        raise JobError(ErrorCode.TOO_LONG, f"the message lasts {duration:.0f} s, allowed are {limit:.0f} s")
    if options.language is not None and options.language not in slot.languages:
        if not slot.multilingual:
            raise JobError(
                ErrorCode.INVALID_OPTIONS, f"{slot.model} knows English only, not language {options.language!r}"
            )
        raise JobError(ErrorCode.INVALID_OPTIONS, f"{slot.model} does not know language {options.language!r}")
    if options.task == "translate" and not slot.multilingual:
        raise JobError(ErrorCode.INVALID_OPTIONS, f"{slot.model} knows English only: it cannot translate")
