"""How much memory a decode worker and its children take, from a minute to three hours of audio.

    python bench/decode_memory.py     the table, and a verdict in its last line; exits 1 when a limit is missed

Writes bench/results/decode-memory.json. Limits: 200 MB in all for three hours, and at most 20 MB more than for one
minute (the index of an M4A grows with it).
Judged are the peaks that the kernel keeps of a fresh process and of its largest child, added up, which counts what they
share twice. Their proportional set sizes (PSS), summed every 20 ms, are shown beside: less, but short peaks are missed.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.decode import voice, write

ROOT = Path(__file__).resolve().parent.parent

LIMIT = 200.0  # MB of the worker and its children
FLAT = 20.0  # MB that three hours may take more than a minute
DURATIONS = {"1 minute": 60, "30 minutes": 1800, "3 hours": 3 * 3600}
PACE = 0.02  # seconds between looks


def main() -> int:
    peaks, rows = {}, []
    print(f"{'message':<14}{'worker':>12}{'largest child':>16}{'together':>12}{'PSS seen':>13}")
    with tempfile.TemporaryDirectory(prefix="voicemill-bench-") as name:
        for label, duration in DURATIONS.items():
            voice(Path(name) / "voice.m4a", duration, ["-ac", "2", "-ar", "44100", "-c:a", "aac", "-b:a", "96k"])
            seen, worker, child = watch(name)
            peaks[label] = worker + child
            figures = {"worker_mb": worker, "child_mb": child, "together_mb": peaks[label], "pss_mb": seen}
            rows.append({"message": label} | {what: round(figure, 1) for what, figure in figures.items()})
            print(f"{label:<14}{worker:>9.1f} MB{child:>13.1f} MB{peaks[label]:>9.1f} MB{seen:>10.1f} MB")
    first, *_, last = peaks.values()
    misses = {"200 MB for three hours": last > LIMIT, "20 MB over a minute's": last - first > FLAT}
    missed = [limit for limit, over in misses.items() if over]
    write("decode-memory", rows, missed)
    verdict = "FAILED" if missed else "PASSED"
    print(f"{verdict}: {last:.1f} MB for three hours, {last - first:+.1f} MB over one minute's")
    return 1 if missed else 0


def watch(media_root: str) -> tuple[float, float, float]:
    """Decode `voice.m4a` in a process of its own; return the peak seen, the worker's and its largest child's."""
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker", media_root], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    peak = 0.0
    while worker.poll() is None:
        peak = max(peak, sum(pss(pid) for pid in tree(worker.pid)))
        time.sleep(PACE)
    assert worker.stdout
    assert worker.returncode == 0
    own, child = map(float, worker.stdout.read().split()[-2:])
    return peak, own, child


def tree(pid: int) -> list[int]:
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def pss(pid: int) -> float:
    """Return MB; 0 where the process has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def work(media_root: str) -> None:
    import dramatiq  # noqa: F401 - a worker has it loaded
    import redis  # noqa: F401
    import structlog

    from config.settings import Settings
    from pipeline.decode import decode

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder:
        decode("voice.m4a", Path(folder), Settings(media_root=media_root))
    print(*(resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


if __name__ == "__main__":
    sys.exit(work(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main())
