"""Calibrate how many model processes share a CPU: measured once for each model on each machine.

One process a core is usually best, since none waits for another within an operation. That need not hold where two cores
are threads of one, or where every process streams large weights through the same memory; so it is measured.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from config.environment import STATE
from pipeline.transcribe import json_cache, machine
from pipeline.transcribe.failures import DiedError, HungError, OutOfMemoryError, UnfitError
from pipeline.transcribe.slot import START_TIMEOUT, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pipeline.transcribe.child import Spec

FILE = STATE / "replicas.json"
GAIN = 1.1  # how many times as fast fewer processes must be: more of them work on more batches at once

log = structlog.get_logger(__name__)


def rate(specs: Sequence[Spec]) -> float:
    """Return the windows a second that these slots decode side by side; 0 if one of them fails."""
    slots = [Slot(spec, START_TIMEOUT) for spec in specs]
    with ThreadPoolExecutor(len(slots)) as threads:  # outlives the slots, whose processes end with their threads
        try:
            list(threads.map(Slot.start, slots))
            return sum(threads.map(Slot.trial, slots))
        except (UnfitError, DiedError, HungError, OutOfMemoryError) as error:
            log.warning("This many model processes do not work here", replicas=len(slots), reason=str(error))
            return 0.0
        finally:
            for slot in slots:
                slot.retire()


def replicas(
    specs: Callable[[int], Sequence[Spec]],
    most: int,
    *,
    file: Path = FILE,
    rate: Callable[[Sequence[Spec]], float] = rate,
) -> int:
    """Return how many processes are fastest together: `most`, or a half, a quarter, … of them.

    Args:
        specs: returns the slots of a number of processes.
        most: processes; as many as cores and memory allow.
        file: where results are kept.
        rate: measures the windows a second of some slots.
    """
    key = _key(specs(most)[0], most)
    with json_cache.locked(file.with_suffix(".lock")):
        known = json_cache.read(file)
        known = known if isinstance(known, dict) else {}
        if known.get(key) in range(1, most + 1):
            return int(known[key])
        count, complete = _fastest(specs, most, rate)
        if complete:
            json_cache.write(file, known | {key: count})
        return count


def _fastest(
    specs: Callable[[int], Sequence[Spec]], most: int, rate: Callable[[Sequence[Spec]], float]
) -> tuple[int, bool]:
    """Return the number of processes, and whether every trial succeeded: a failure may be gone at the next start."""
    log.info("CPU calibration: a trial of how many model processes are fastest", at_most=most)
    rates = {most: rate(specs(most))}
    count = most
    while count > 1:
        fewer = count // 2
        rates[fewer] = rate(specs(fewer))
        if rates[fewer] < GAIN * rates[count]:
            break
        count = fewer
    threads, windows = specs(count)[0].threads, round(rates[count], 1)
    log.info("CPU calibrated", replicas=count, threads=threads, windows_per_second=windows)
    return count, all(rates.values())


def _key(spec: Spec, most: int) -> str:
    """Return a text that changes with everything the result depends on: processor, model and library."""
    size = spec.backend.weights_size(spec.path)
    library = spec.backend.library_version()
    return f"{machine.processor()}, {most} of {spec.threads}, {size} bytes in {spec.compute_type}, {library}"
