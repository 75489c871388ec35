"""The work of the decode stage: convert a voice message from any permitted source to 16 kHz mono audio.

A source is fetched to a private folder (sources/), probed (probe.py) and converted in one FFmpeg run (convert.py), and
its levels are measured (levels.py). FFmpeg's programs run in a sandbox (sandbox.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from config.settings import Settings
from pipeline.decode import convert, probe, sources
from pipeline.decode.convert import Converted
from pipeline.decode.probe import Sound
from pipeline.decode.truncation import cut_short
from voicemill.errors import ErrorCode, JobError
from voicemill.store.audio import AudioStore

__all__ = ["Decoded", "decode"]

WARNINGS = 8  # that a record holds at most

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded message: 16 kHz mono 16-bit FLAC at `path`, `duration` in seconds, and what the record says of it."""

    path: Path
    duration: float
    audio: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def decode(
    source: str,
    folder: Path,
    settings: Settings,
    *,
    stream: int | None = None,
    on_fetched: Callable[[str], None] | None = None,
    uploads: AudioStore | None = None,
) -> Decoded:
    """Fetch and decode one voice message.

    Args:
        source: where it is: a path under MEDIA_ROOT, `upload:<id>`, ...
        folder: a private temporary folder of this job, which the caller makes and removes.
        settings: sources allowed, limits.
        stream: which of several audio streams, from 0; None: the default one.
        on_fetched: called with the fingerprint of the fetched bytes before they are decoded. An exception that it
            raises ends the work, for instance because the same message already has a transcript.
        uploads: where `upload:` sources are; None: there are none.

    Raises:
        JobError: why there is no audio, with a code of the table.
    """
    with sources.fetch(source, folder, settings, uploads) as fetched:
        fingerprint = fetched.fingerprint()
        if on_fetched:
            on_fetched(fingerprint)
        sound = probe.probe(fetched.file, folder, stream, settings.decode_timeout)
        converted = convert.convert(
            fetched.file,
            sound,
            folder,
            longest=settings.max_duration,
            seconds=settings.decode_timeout,
            loudness=settings.normalize_loudness,
        )
        if converted.duration > settings.max_duration:
            raise JobError(ErrorCode.TOO_LONG, f"it lasts more than {settings.max_duration:g} s")
        if converted.duration < settings.min_duration:
            raise JobError(
                ErrorCode.TOO_SHORT, f"it lasts {converted.duration:.3f} s, less than {settings.min_duration:g} s"
            )
        warnings = _warnings(converted, cut_short(fetched.file, sound, converted))
        log.info("Decoded", codec=sound.codec, duration=round(converted.duration, 3), bytes=fetched.size)
        audio = _record(converted, sound) | {"source_bytes": fetched.size, "sha256": fingerprint}
        return Decoded(converted.path, converted.duration, audio, warnings)


def _record(converted: Converted, sound: Sound) -> dict[str, Any]:
    levels = asdict(converted.levels)
    alone = levels.pop("alone")
    return {
        "codec": sound.codec,
        "container": sound.container,
        "duration": round(converted.duration, 3),
        "channels": sound.channels,
        "channel_used": alone,  # None: all of them, mixed
        "sample_rate": sound.sample_rate,
        **levels,
    }


def _warnings(converted: Converted, cut: str | None) -> list[str]:
    found = [f"the file is cut short: {cut}"] if cut else []
    if converted.levels.silent:
        found.append("the sound is silent")
    if converted.levels.clipped:
        found.append("the sound is clipped: recorded too loud")
    if converted.levels.alone is not None:
        found.append(f"the channels cancel each other out: channel {converted.levels.alone} was taken alone")
    found += [f"FFmpeg: {complaint[:200]}" for complaint in converted.complaints]
    return found[:WARNINGS]
