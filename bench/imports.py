"""What a backend pays for `from actors import decode`, beside the import of dramatiq and redis alone.

    python bench/imports.py

Prints both medians and their ratio, which is to be at most 1.3; the exit code is 1 where it is more.
"""

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 21
FLOOR = 1.3
OURS = "from actors import decode"
THEIRS = "import dramatiq, redis; from dramatiq.brokers.redis import RedisBroker"


def seconds(program):
    """Return how long a fresh interpreter takes for the program, and how long for nothing, from the inside of it."""
    timed = f"import time; began = time.perf_counter(); {program}; print(time.perf_counter() - began)"
    return float(subprocess.run([sys.executable, "-c", timed], cwd=ROOT, capture_output=True, check=True).stdout)


def main():
    ours, theirs = [], []
    for _ in range(RUNS):  # in turn, so that both see the same machine
        ours.append(seconds(OURS))
        theirs.append(seconds(THEIRS))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{OURS:<60} {statistics.median(ours) * 1000:6.1f} ms")
    print(f"{THEIRS:<60} {statistics.median(theirs) * 1000:6.1f} ms")
    good = ratio <= FLOOR
    print(f"{'PASS' if good else 'MISS'}: the actor costs {ratio:.2f} times dramatiq and redis alone (at most {FLOOR})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
