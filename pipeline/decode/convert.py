"""Convert any audio to what Whisper expects, in one sandboxed FFmpeg run that streams to disk: 16 kHz mono 16-bit FLAC.

The same run writes a minute of the audio, sampled across the message, to standard output, to measure its levels. If
these show that mixing the channels has cancelled the voice, a second run takes the loudest channel alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pipeline.decode import levels, reasons, sandbox
from pipeline.decode.levels import Levels
from pipeline.decode.probe import Sound
from voicemill.errors import ErrorCode, JobError

SAMPLE_RATE = 16000  # Hz: Whisper's (`SAMPLE_RATE` in openai/whisper's audio.py)
SAMPLE_WIDTH = 2  # bytes
LEVELS_SECONDS = 60  # of sound that the levels are measured on; all of a short message
CHANNELS = 8  # of a sound that are measured apart: those of 7.1
MARGIN = 1.0  # seconds beyond the longest message that are decoded, so that a longer one shows itself
LOWEST = 40  # Hz; below lie DC offset, rumble and handling noise, and no voice
# Raises a voice by up to 25 times, within a hundredth of a second at most a little: FFmpeg's filter for speech.
LOUDNESS = "speechnorm=e=25:r=0.0005:l=1"
_HEADER = 42  # bytes of a FLAC file up to the end of STREAMINFO's sample count and checksum


@dataclass(frozen=True, slots=True)
class Converted:
    """A decoded message: the file, its length, the levels of its sound, and what FFmpeg complained of.

    `duration` is in seconds, and `measured` how many of them the levels are of.
    """

    path: Path
    duration: float
    levels: Levels
    measured: float
    complaints: list[str]


def convert(
    source: BinaryIO, sound: Sound, folder: Path, *, longest: float, seconds: float, loudness: bool = False
) -> Converted:
    """Decode `sound` to `folder`.

    Args:
        source: the open file.
        sound: which of its streams.
        folder: where the result goes, and the only place that FFmpeg writes to.
        longest: seconds of sound after which FFmpeg stops.
        seconds: time limit of one FFmpeg run.
        loudness: whether a quiet voice is raised; its levels are those from before.

    Raises:
        JobError: `undecodable`, `too_short`, or those of `sandbox`.
    """
    converted = _run(source, graph(sound, loudness=loudness), sound, folder, longest, seconds)
    if _misled(sound, converted):
        sound = replace(sound, duration=converted.duration)
        converted = _run(source, graph(sound, loudness=loudness), sound, folder, longest, seconds)
    alone = converted.levels.alone
    if alone is not None:
        converted = _run(source, graph(sound, alone, loudness=loudness), sound, folder, longest, seconds)
    return converted


def _run(source: BinaryIO, filters: str, sound: Sound, folder: Path, longest: float, seconds: float) -> Converted:
    path = folder / "audio.flac"
    command = [
        *("ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-y", "-threads", "1", *sandbox.FORBID, *sandbox.INPUT),
        *("-filter_complex", filters),
        *("-map", "[whole]", "-t", f"{longest + MARGIN:.3f}", "-map_metadata", "-1", "-c:a", "flac", path.name),
        *("-map", "[part]", "-t", f"{longest + MARGIN:.3f}", "-f", "s16le", "pipe:1"),
    ]
    outcome = sandbox.run(
        command,
        source,
        folder,
        seconds=seconds,
        file_size=int((longest + 60) * SAMPLE_RATE * SAMPLE_WIDTH * 1.1),  # FLAC of noise is a little over PCM
        keep=LEVELS_SECONDS * SAMPLE_RATE * SAMPLE_WIDTH * _heard(sound),
    )
    sandbox.judge(outcome, "FFmpeg", seconds)
    duration = flac_duration(path)
    if not duration and (outcome.status or outcome.errors.strip()):
        raise JobError(ErrorCode.UNDECODABLE, f"FFmpeg cannot decode it: {reasons.reason(outcome.errors)}")
    if not duration:
        raise JobError(ErrorCode.TOO_SHORT, "it holds no sound at all")
    measured = levels.measure(outcome.output, _heard(sound), SAMPLE_RATE)
    seconds_measured = len(outcome.output) / (SAMPLE_RATE * SAMPLE_WIDTH * _heard(sound))
    return Converted(path, duration, measured, seconds_measured, reasons.lines(outcome.errors))


def _misled(sound: Sound, converted: Converted) -> bool:
    """Return whether a wrong or missing duration in the header made the levels miss the sound."""
    if converted.measured < min(LEVELS_SECONDS, converted.duration) / 2:  # it promised too much
        return True
    beyond = converted.duration > max(sound.duration or 0.0, LEVELS_SECONDS) + 1.0  # it promised too little
    return beyond and converted.levels.silent


def _heard(sound: Sound) -> int:
    """Return how many channels' levels are measured apart."""
    return sound.channels if 2 <= sound.channels <= CHANNELS else 1


def graph(sound: Sound, alone: int | None = None, *, loudness: bool = False) -> str:
    """Return FFmpeg's filters: the whole message to `[whole]`, a spread minute of it, its channels apart, to `[part]`.

    Channels are mixed before the sound is resampled, which halves the work on stereo.
    """
    if alone is not None:
        mix = f"pan=mono|c0=c{alone}"
    elif sound.channels == 2:
        mix = "pan=mono|c0=0.5*c0+0.5*c1"
    elif sound.channels > 2 and not sound.layout:  # FFmpeg mixes only what it knows the places of
        mix = "pan=mono|c0=" + "+".join(f"{1 / sound.channels:.6f}*c{n}" for n in range(sound.channels))
    else:
        mix = "aformat=channel_layouts=mono"
    heard = _heard(sound)
    voice = f"highpass=f={LOWEST}," + (f"{LOUDNESS}," if loudness else "")
    resampled = f"aresample={SAMPLE_RATE},aformat=sample_fmts=s16:sample_rates={SAMPLE_RATE}"
    layout = {1: ":channel_layouts=mono", 2: ":channel_layouts=stereo"}.get(heard, "")  # of more: as they come
    part = f"aselect='{_spread(sound.duration)}',{resampled}{layout}"
    # FFmpeg's decoders of AMR leave out the frames in which a phone sends nothing: they are silence, with its time.
    gaps = "aresample=async=1:min_hard_comp=0.01," if sound.codec in ("amr_nb", "amr_wb") else ""
    return (
        f"[0:a:{sound.stream}]{gaps}asplit[one][other];"
        f"[one]{mix},{voice}{resampled}:channel_layouts=mono[whole];"
        f"[other]{part if heard > 1 else f'{mix},{part}'}[part]"
    )


def _spread(duration: float | None) -> str:
    """Return which moments are measured: all of a minute, or one second out of each sixtieth of the message."""
    if duration is None or duration <= LEVELS_SECONDS:
        return f"lt(t,{LEVELS_SECONDS})"
    return f"lt(mod(t,{duration / LEVELS_SECONDS:.3f}),1)"


def flac_duration(path: Path) -> float:
    """Return the seconds of a FLAC file by the sample count that its encoder wrote at the end; 0: none.

    STREAMINFO (RFC 9639, section 8.2) holds the rate in 20 bits, channels and width in 8, and the count in 36, from
    byte 18 of the file on.
    """
    try:
        with path.open("rb") as file:
            header = os.read(file.fileno(), _HEADER)
    except FileNotFoundError:
        return 0.0
    if len(header) < _HEADER:
        return 0.0
    packed = int.from_bytes(header[18:26], "big")
    return (packed & (2**36 - 1)) / SAMPLE_RATE
