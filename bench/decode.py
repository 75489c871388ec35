"""How much longer decoding takes than the bare `ffmpeg` command of the same conversion.

    python bench/decode.py            the table, and a verdict in its last line; exits 1 when a floor is missed

Writes bench/results/decode.json. Floors: at most 2.2 times for 5 s of Opus, at most 1.1 times for an hour of M4A.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog

from config.settings import Settings
from pipeline.decode import decode

RESULTS = Path(__file__).resolve().parent / "results"
SAMPLE = Path(__file__).resolve().parent.parent / "samples" / "voice-message.ogg"
# name, duration (seconds), encoder's arguments, file, rounds, most times the bare command
CASES = [
    ("5 s of Opus", 5, ["-ac", "1", "-c:a", "libopus", "-b:a", "24k"], "short.ogg", 41, 2.2),
    ("1 h of M4A, stereo", 3600, ["-ac", "2", "-ar", "44100", "-c:a", "aac", "-b:a", "96k"], "long.m4a", 5, 1.1),
]


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    rows, missed = [], []
    print(f"{'message':<22}{'bare ffmpeg':>14}{'decode':>12}{'times':>8}{'floor':>8}")
    with tempfile.TemporaryDirectory(prefix="voicemill-bench-") as name:
        root = Path(name)
        settings = Settings(media_root=name)
        for label, duration, arguments, file, rounds, floor in CASES:
            voice(root / file, duration, arguments)
            bare, ours = measure(root, root / file, settings, rounds)
            seconds = [statistics.median(each) for each in (bare, ours)]
            times = seconds[1] / seconds[0]
            missed += [] if times <= floor else [label]
            row = {"message": label, "ffmpeg_s": round(seconds[0], 3), "decode_s": round(seconds[1], 3)}
            rows.append(row | {"times": round(times, 2), "floor": floor, "rounds": rounds})
            print(
                f"{label:<22}{seconds[0]:>12.3f} s{seconds[1]:>10.3f} s"
                f"{times:>8.2f}{floor:>8.2f}{'' if times <= floor else '  MISSED'}"
            )
    write("decode", rows, missed)
    print("FAILED: a floor was missed" if missed else "PASSED: decode is within its floors")
    return 1 if missed else 0


def write(name: str, rows: list[dict[str, object]], missed: list[str]) -> None:
    """Keep the figures, from which bench/plots.py makes the documentation's tables."""
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine()}
    record = {"machine": machine, "rows": rows, "missed": missed}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def voice(path: Path, duration: int, arguments: list[str]) -> None:
    """Make a message of the sample, over and over; encoded once a minute's worth and copied from there on."""
    minute = path.with_stem(f"{path.stem}-minute")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-stream_loop", "-1", "-i"]
    subprocess.run([*command, str(SAMPLE), "-t", str(min(duration, 60)), *arguments, str(minute)], check=True)
    subprocess.run([*command, str(minute), "-t", str(duration), "-c", "copy", str(path)], check=True)


def measure(root: Path, path: Path, settings: Settings, rounds: int) -> tuple[list[float], list[float]]:
    """Return seconds of the bare command and of ours, taken in turn after one of each that does not count."""
    bare_command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", str(path)]
    bare_command += ["-ac", "1", "-ar", "16000", "-c:a", "flac", str(root / "bare.flac")]

    def bare() -> None:
        subprocess.run(bare_command, check=True)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            decode(path.name, Path(folder), settings)

    timed(bare)
    timed(ours)
    pairs = [(timed(bare), timed(ours)) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
