"""How many model processes share a CPU: what a short trial found fastest, once for each model on each machine.

One process a core is usually best: none waits for another within an operation. It need not be where two cores are
threads of one, or where every process streams large weights through the same memory; so it is tried, not assumed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from config.environment import STATE
from pipeline.transcribe import machine, remembered
from pipeline.transcribe.failures import DiedError, HungError, OutOfMemoryError, UnfitError
from pipeline.transcribe.slot import START_TIMEOUT, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.transcribe.child import Spec

FILE = STATE / "replicas.json"
GAIN = 1.1  # times as fast as twice their number that fewer processes must be: more have more batches at work

log = structlog.get_logger(__name__)


def replicas(specs: Callable[[int], Sequence[Spec]], most: int) -> int:
    """Return how many processes are fastest together: `most`, or a half, a quarter, … of them.

    Args:
        specs: returns the slots of a number of processes.
        most: processes; as many as cores and memory carry.
    """
    key = _key(specs(most)[0], most)
    with remembered.locked(FILE.with_suffix(".lock")):
        known = remembered.read(FILE)
        known = known if isinstance(known, dict) else {}
        if known.get(key) in range(1, most + 1):
            return int(known[key])
        count, sure = _fastest(specs, most)
        if sure:
            remembered.write(FILE, known | {key: count})
        return count


def _fastest(specs: Callable[[int], Sequence[Spec]], most: int) -> tuple[int, bool]:
    """Return the number of processes, and whether every trial ended well: what failed may do so only today."""
    log.info("CPU calibration: a trial of how many model processes are fastest", at_most=most)
    rates = {most: _rate(specs(most))}
    count = most
    while count > 1:
        fewer = count // 2
        rates[fewer] = _rate(specs(fewer))
        if rates[fewer] < GAIN * rates[count]:
            break
        count = fewer
    threads, rate = specs(count)[0].threads, round(rates[count], 1)
    log.info("CPU calibrated", replicas=count, threads=threads, windows_per_second=rate)
    return count, all(rates.values())


def _rate(specs: Sequence[Spec]) -> float:
    """Return the windows a second that these slots decode side by side; 0 where one of them cannot."""
    slots = [Slot(spec, START_TIMEOUT) for spec in specs]
    with ThreadPoolExecutor(len(slots)) as threads:  # it outlives the slots: a process ends with the thread it is of
        try:
            list(threads.map(Slot.start, slots))
            return sum(threads.map(Slot.trial, slots))
        except (UnfitError, DiedError, HungError, OutOfMemoryError) as error:
            log.warning("This many model processes do not work here", replicas=len(slots), reason=str(error))
            return 0.0
        finally:
            for slot in slots:
                slot.retire()


def _key(spec: Spec, most: int) -> str:
    """Name what the outcome depends on; another model, processor or library is tried anew."""
    size = (spec.path / "model.bin").stat().st_size
    library = f"ctranslate2 {version('ctranslate2')}"
    return f"{machine.processor()}, {most} of {spec.threads}, {size} bytes in {spec.compute_type}, {library}"
