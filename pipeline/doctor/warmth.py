"""Has the driver compiled this build for this GPU before? A stamp in its cache tells, and a canary need not wait long.

A GPU for which a build carries no machine code has its PTX compiled at the first use, which takes up to minutes; the
driver keeps what came of it in its cache. Whoever empties the cache takes the stamp along.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import Mapping, Optional

from pipeline.doctor import build, devices, libraries


def cache(variables: Mapping[str, str]) -> Optional[str]:
    """Return the folder in which the driver keeps compiled code; None where it was told to keep none."""
    if variables.get("CUDA_CACHE_DISABLE") == "1":
        return None
    chosen = variables.get("CUDA_CACHE_PATH")
    if chosen:
        return chosen
    if os.path.isdir(libraries.VOLUME):
        return os.path.join(libraries.VOLUME, "cuda-cache")  # as `libraries.preload` tells the driver
    return os.path.expanduser("~/.nv/ComputeCache")  # the driver's own choice


def is_warm(wanted: build.Build, driver: devices.Driver, gpu: devices.Gpu, variables: Mapping[str, str]) -> bool:
    """Tell whether nothing has to be compiled for a GPU."""
    if wanted.runs_as_machine_code(gpu.capability):
        return True
    stamp = _stamp(wanted, driver, gpu, variables)
    return stamp is not None and os.path.exists(stamp)


def remember(wanted: build.Build, driver: devices.Driver, gpu: devices.Gpu, variables: Mapping[str, str]) -> None:
    """Note that a canary has passed; where the cache cannot be written to, the driver has kept nothing either."""
    stamp = _stamp(wanted, driver, gpu, variables)
    if stamp is None or wanted.runs_as_machine_code(gpu.capability):
        return
    with suppress(OSError):
        os.makedirs(os.path.dirname(stamp), exist_ok=True)
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(f"ctranslate2 {wanted.version} has run on {gpu.name} with {driver.library}\n")


def _stamp(
    wanted: build.Build, driver: devices.Driver, gpu: devices.Gpu, variables: Mapping[str, str]
) -> Optional[str]:
    """Return the stamp's path: another build, driver or kind of GPU has another."""
    folder = cache(variables)
    if folder is None:
        return None
    facts = (
        wanted.version,
        os.path.basename(wanted.core.path),
        driver.library,
        driver.version,
        gpu.name,
        gpu.capability,
    )
    return os.path.join(folder, "voicemill-canary-" + hashlib.sha256(repr(facts).encode()).hexdigest()[:16])
