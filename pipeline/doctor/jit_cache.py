"""Whether the driver has already compiled this build for this GPU, which decides how long a canary may take.

If a build has no machine code for a GPU, the driver compiles its PTX at the first use, which takes up to minutes, and
keeps the result in its JIT cache. A marker file in that cache records a successful canary; clearing the cache removes
the marker, too.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import Mapping, Optional

from pipeline.doctor import build, devices, libraries


def folder(variables: Mapping[str, str]) -> Optional[str]:
    """Return the folder of the driver's JIT cache; None if the cache is disabled."""
    if variables.get("CUDA_CACHE_DISABLE") == "1":
        return None
    chosen = variables.get("CUDA_CACHE_PATH")
    if chosen:
        return chosen
    if os.path.isdir(libraries.VOLUME):
        return os.path.join(libraries.VOLUME, "cuda-cache")  # where `libraries.preload` puts it
    return os.path.expanduser("~/.nv/ComputeCache")  # the driver's default


def is_compiled(wanted: build.Build, driver: devices.Driver, gpu: devices.Gpu, variables: Mapping[str, str]) -> bool:
    """Return whether the driver has nothing to compile for a GPU."""
    if wanted.runs_as_machine_code(gpu.capability):
        return True
    marker = _marker(wanted, driver, gpu, variables)
    return marker is not None and os.path.exists(marker)


def mark_compiled(wanted: build.Build, driver: devices.Driver, gpu: devices.Gpu, variables: Mapping[str, str]) -> None:
    """Record that a canary passed. If the cache is not writable, the driver has kept no compiled code either."""
    marker = _marker(wanted, driver, gpu, variables)
    if marker is None or wanted.runs_as_machine_code(gpu.capability):
        return
    with suppress(OSError):
        os.makedirs(os.path.dirname(marker), exist_ok=True)
        with open(marker, "w", encoding="utf-8") as file:
            file.write(f"ctranslate2 {wanted.version} has run on {gpu.name} with {driver.library}\n")


def _marker(
    wanted: build.Build, driver: devices.Driver, gpu: devices.Gpu, variables: Mapping[str, str]
) -> Optional[str]:
    """Return the path of the marker for this build, driver and GPU model."""
    place = folder(variables)
    if place is None:
        return None
    facts = (
        wanted.version,
        os.path.basename(wanted.core.path),
        driver.library,
        driver.version,
        gpu.name,
        gpu.capability,
    )
    return os.path.join(place, "voicemill-canary-" + hashlib.sha256(repr(facts).encode()).hexdigest()[:16])
