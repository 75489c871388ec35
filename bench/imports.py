"""What a backend pays for `from voicemill import decode`, compared with the import of dramatiq and redis alone.

    python bench/imports.py

Prints the minimum of several alternating runs of both, and their ratio; the exit code is 1 if that is above the limit.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 21
LIMIT = 1.3  # docs/architecture.md
OURS = "from voicemill import decode"
THEIRS = "import dramatiq, redis"


def seconds(program):
    """Return how long a fresh interpreter takes for a program, without its own start."""
    timed = f"import time; started = time.perf_counter(); {program}; print(time.perf_counter() - started)"
    return float(subprocess.run([sys.executable, "-c", timed], cwd=ROOT, capture_output=True, check=True).stdout)


def measure(runs=RUNS):
    """Return the least times of both programs (seconds); the runs alternate, so that both see the same machine."""
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(seconds(OURS))
        theirs.append(seconds(THEIRS))
    return min(ours), min(theirs)


def main():
    ours, theirs = measure()
    ratio = ours / theirs
    print(f"{OURS:<30} {ours * 1000:6.1f} ms")
    print(f"{THEIRS:<30} {theirs * 1000:6.1f} ms")
    verdict = "PASS" if ratio <= LIMIT else "MISS"
    print(f"{verdict}: the actor costs {ratio:.2f} times dramatiq and redis alone (at most {LIMIT})")
    return 0 if verdict == "PASS" else 1


if __name__ == "__main__":
    sys.exit(main())
