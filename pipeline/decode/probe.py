"""Find out what a file contains with a sandboxed ffprobe, never from its name, and choose the stream to decode."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.decode import reasons, sandbox
from voicemill.errors import ErrorCode, JobError

TIMEOUT = 30.0  # seconds; ffprobe reads a few megabytes and takes 0.05
_SHOWN = (
    "format=format_name,duration:"
    "stream=index,codec_type,codec_name,channels,channel_layout,sample_rate,duration:stream_disposition=default"
)


@dataclass(frozen=True, slots=True)
class Sound:
    """The audio stream to decode, as its header describes it. Never allocate by its numbers: they may be forged."""

    stream: int  # among the audio streams, from 0
    codec: str
    container: str
    channels: int
    layout: str  # FFmpeg's name; empty: unknown
    sample_rate: int  # Hz
    duration: float | None  # seconds


def probe(source: BinaryIO, folder: Path, stream: int | None, seconds: float = TIMEOUT) -> Sound:
    """Find the audio stream to decode: number `stream` of them, from 0, else the default one, else the first.

    Raises:
        JobError: `undecodable`, `no_audio_stream`, `invalid_options`, or those of `sandbox`.
    """
    limit = min(seconds, TIMEOUT)
    command = ["ffprobe", "-v", "error", *sandbox.FORBID, "-show_entries", _SHOWN, "-of", "json", *sandbox.INPUT]
    outcome = sandbox.run(command, source, folder, seconds=limit)
    sandbox.judge(outcome, "ffprobe", limit)
    if outcome.status:
        raise JobError(ErrorCode.UNDECODABLE, f"FFmpeg cannot read it: {reasons.reason(outcome.errors)}")
    return parse(outcome.output, stream)


def parse(report: bytes, stream: int | None) -> Sound:
    """Choose the stream from ffprobe's JSON. Whatever ffprobe prints, the result is valid or a JobError.

    Raises:
        JobError: `undecodable`, `no_audio_stream`, or `invalid_options`: there is no such stream.
    """
    try:
        found = json.loads(report)
    except (ValueError, RecursionError):
        raise JobError(ErrorCode.UNDECODABLE, "ffprobe's report on it cannot be read") from None
    found = _as_dict(found)
    streams = [_as_dict(entry) for entry in _as_list(found.get("streams"))]
    audio = [entry for entry in streams if entry.get("codec_type") == "audio"]
    if not audio:
        kinds = ", ".join(sorted({_word(entry.get("codec_type")) or "unknown" for entry in streams})) or "nothing"
        raise JobError(ErrorCode.NO_AUDIO_STREAM, f"it holds {kinds}, and no sound")
    if stream is None:
        defaults = [n for n, entry in enumerate(audio) if _as_dict(entry.get("disposition")).get("default") == 1]
        stream = defaults[0] if defaults else 0
    elif not 0 <= stream < len(audio):
        raise JobError(
            ErrorCode.INVALID_OPTIONS, f"stream is {stream}, and the file has {len(audio)} audio stream(s), from 0"
        )
    chosen, form = audio[stream], _as_dict(found.get("format"))
    codec = _word(chosen.get("codec_name"))
    if not codec:
        raise JobError(ErrorCode.UNDECODABLE, "the sound is in a codec that FFmpeg does not know, or is encrypted")
    return Sound(
        stream=stream,
        codec=codec,
        container=_word(form.get("format_name")),
        channels=int(_number(chosen.get("channels")) or 0),
        layout=_word(chosen.get("channel_layout")),
        sample_rate=int(_number(chosen.get("sample_rate")) or 0),
        duration=_number(chosen.get("duration")) or _number(form.get("duration")),
    )


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: Any) -> str:
    """Return FFmpeg's name of something, bounded; it goes into records, never into a command line."""
    return value[:64] if isinstance(value, str) and value.isascii() and value.isprintable() else ""


def _number(value: Any) -> float | None:
    """Return a finite number of at least 0 and below 2^31, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < 2**31 else None
