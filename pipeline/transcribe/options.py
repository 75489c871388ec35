"""The options of one message, and the check that refuses what the model cannot do before any work is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.bounds import BEAMS
from voicemill import options as job_options
from voicemill.errors import ErrorCode, JobError

if TYPE_CHECKING:
    from pipeline.transcribe.child import SlotInfo

SHARED = ("language", "task", "prompt", "hotwords", "word_timestamps")  # with `decode.send()`, which refuses the same


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """What a sender asks for one message; None leaves a choice to the engine."""

    language: str | None = None  # code such as "ko"; None: detected
    task: str = "transcribe"  # or "translate", into English
    prompt: str | None = None  # text that the model treats as the preceding speech
    hotwords: str | None = None  # words that are likely to occur
    word_timestamps: bool = False

    beam_size: int | None = None  # of the first fallback pass; None: the engine's
    no_speech_threshold: float = 0.6  # OpenAI's: a window with improbable words above it counts as silence
    max_duration: float | None = None  # seconds; a longer message fails with `too_long`


def check(options: DecodingOptions, duration: float, slot: SlotInfo) -> None:
    """Raise if the loaded model cannot do what `options` ask for a message of `duration` seconds.

    Raises:
        JobError: `too_long` or `invalid_options`.
    """
    job_options.parse({name: getattr(options, name) for name in SHARED})
    beams, limit = options.beam_size, options.max_duration
    for name, good, takes in (
        ("beam_size", beams is None or (type(beams) is int and 1 <= beams <= BEAMS), f"1 to {BEAMS}, or None"),
        ("no_speech_threshold", isinstance(options.no_speech_threshold, int | float), "a number"),
        ("max_duration", limit is None or isinstance(limit, int | float), "seconds, or None"),
    ):
        if not good:
            shown = job_options.shown(getattr(options, name))
            raise JobError(ErrorCode.INVALID_OPTIONS, f"{name} is {shown}: it takes {takes}")
    if limit is not None and duration > limit:
        raise JobError(ErrorCode.TOO_LONG, f"the message lasts {duration:.0f} s, allowed are {limit:.0f} s")
    capabilities = slot.capabilities
    if options.language is not None and options.language not in capabilities.languages:
        only = f"; it knows {capabilities.only_language!r} only" if capabilities.only_language else ""
        raise JobError(ErrorCode.INVALID_OPTIONS, f"{slot.model} does not know language {options.language!r}{only}")
    if options.task not in capabilities.tasks:
        raise JobError(ErrorCode.INVALID_OPTIONS, f"{slot.model} cannot {options.task}: use a multilingual model")
    if options.word_timestamps and not capabilities.word_times:
        raise JobError(ErrorCode.INVALID_OPTIONS, f"{slot.model} gives no word times: leave word_timestamps out")
