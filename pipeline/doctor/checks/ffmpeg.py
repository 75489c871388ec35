"""Check 4: FFmpeg is installed and decodes the formats that phones and browsers send."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Tuple

from pipeline.doctor import child
from pipeline.doctor.findings import Finding, finding
from pipeline.doctor.machine import Machine

TIMEOUT = 3.0  # seconds, for half a second of audio
MIN_VERSION = (4, 2)  # that of Ubuntu 20.04, the oldest in RunPod's images
SAMPLES = Path(__file__).parents[1] / "samples"
FORMATS = {
    "opus.ogg": "Opus in Ogg",
    "opus.webm": "Opus in WebM",
    "aac.m4a": "AAC in M4A",
    "voice.amr": "AMR",
    "voice.mp3": "MP3",
    "voice.flac": "FLAC",
    "voice.wav": "WAV",
}
MIN_DECODED = 8000  # bytes of 16 kHz mono at 16 bits: a quarter of a second, which is half of each sample


def examine(machine: Machine) -> List[Finding]:
    """Run both programs and decode a sample of each format."""
    findings = []
    command = machine.apt("ffmpeg")
    version = ""
    for program in ("ffmpeg", "ffprobe"):
        path = shutil.which(program)
        if not path:
            findings.append(finding("ffmpeg_missing", "PATH", program=program, command=command))
            continue
        try:
            outcome = child.run([path, "-version"], TIMEOUT)
        except OSError as error:
            findings.append(
                finding(
                    "ffmpeg_broken",
                    str(error),
                    program=path,
                    ending=("it does not start", "시작되지 않음"),
                    command=command,
                )
            )
            continue
        if not outcome.ok:
            ending = outcome.endings
            findings.append(finding("ffmpeg_broken", outcome.last_line, program=path, ending=ending, command=command))
        elif program == "ffmpeg":
            match = re.search(r"version n?(\S+)", outcome.out)
            version = match.group(1) if match else "unknown"
    if findings:
        return findings
    program = shutil.which("ffmpeg") or "ffmpeg"
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda name: (name, _decode(program, name)), FORMATS))
    bad = [(name, reason) for name, reason in results if reason]
    findings += [
        finding("ffmpeg_cannot_decode", reason, version=version, format=_names(FORMATS[name]), command=command)
        for name, reason in bad
    ]
    numbers: Tuple[int, ...] = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if re.match(r"\d+\.\d+", version) and numbers < MIN_VERSION:
        least = ".".join(map(str, MIN_VERSION))
        findings.append(finding("ffmpeg_old", program, version=version, least=least, command=command))
    if not bad:
        findings.append(finding("ffmpeg_fit", program, version=version, formats=_names(*FORMATS.values())))
    return findings


def _names(*formats: str) -> Tuple[str, str]:
    """Return formats in English and in Korean, where the container comes first."""
    return ", ".join(formats), ", ".join(" ".join(reversed(each.split(" in "))) for each in formats)


def _decode(program: str, name: str) -> str:
    """Decode a sample; return what went wrong, or an empty string."""
    arguments = [
        "-v",
        "error",
        "-nostdin",
        "-i",
        str(SAMPLES / name),
        "-ac",
        "1",
        "-ar",
        "16000",
        "-f",
        "framecrc",
        "-",
    ]
    outcome = child.run([program, *arguments], TIMEOUT)
    if not outcome.ok:
        return f"{name}: {outcome.ending}: {outcome.last_line}"
    # Columns of framecrc: stream, decoding and presentation time, duration, size in bytes, checksum
    rows = [line.split(",") for line in outcome.out.splitlines() if line[:1].isdigit()]
    return "" if sum(int(row[4]) for row in rows) >= MIN_DECODED else f"{name}: less than half of the audio was decoded"
