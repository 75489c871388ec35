"""The GPUs that the driver shows, queried in a child process, so that the caller never initialises CUDA."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import List, Optional, Tuple

from pipeline.doctor import child, steps

TIMEOUT = 6.0  # seconds; drivers usually answer within one, and a worker without a usable GPU must exit within 10

# Numbers of the CUDA driver API (cuda.h): attributes 75 and 76 are the compute capability, 20 is the
# compute mode and 32 whether ECC is on; a result of 0 is success.
_CHILD = """
import ctypes, json, sys
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit()
seen = {"init": cuda.cuInit(0), "driver": 0, "gpus": []}
number, size, free = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0:
    seen["driver"] = number.value
seen["library"] = "libcuda.so.1"
try:
    with open("/proc/self/maps") as maps:
        seen["library"] = next((line.split()[-1] for line in maps if "libcuda.so" in line), seen["library"])
except OSError:
    pass
count = ctypes.c_int()
if seen["init"] == 0:
    seen["init"] = cuda.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    device, name, uuid = ctypes.c_int(), ctypes.create_string_buffer(128), (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, 128, device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    cuda.cuDeviceGetUuid(ctypes.byref(uuid), device)
    attributes = {}
    for attribute in (75, 76, 20, 32):
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        attributes[attribute] = number.value
    context = ctypes.c_void_p()
    used = cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) if sys.argv[1] == "context" else -1
    if used == 0:
        cuda.cuCtxSetCurrent(context)
        used = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(size))
    text = bytes(uuid).hex()
    seen["gpus"].append({
        "index": index, "name": name.value.decode(errors="replace"), "memory_total": size.value,
        "uuid": "GPU-" + "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]]),
        "memory_free": free.value if used == 0 else None,
        "capability": [attributes[75], attributes[76]], "mode": attributes[20], "ecc": attributes[32], "context": used,
    })
print(json.dumps(seen))
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU that is visible to CUDA.

    `memory_total` and `memory_free` are bytes, `memory_free` is None if unknown; `capability` is the compute capability
    such as (9, 0); `mode` is the compute mode (0 shared, 2 prohibited, 3 a single process); `context` is the driver's
    result of creating a context on it (0: created, -1: not tried).
    """

    index: int
    uuid: str
    name: str
    memory_total: int
    memory_free: Optional[int]
    capability: Tuple[int, int]
    mode: int = 0
    ecc: int = 0
    context: int = -1


@dataclass(frozen=True)
class Driver:
    """The state of the driver; `outcome` is that of the process that queried it.

    `missing` is the loader's error if the driver's library cannot be loaded; `init` the result of cuInit or
    cuDeviceGetCount; `version` the CUDA release that the driver supports, such as (12, 8).
    """

    outcome: child.ProcessResult
    missing: str = ""
    init: int = -1
    version: Tuple[int, int] = (0, 0)
    library: str = ""
    gpus: Tuple[Gpu, ...] = ()


def query(*, context: bool) -> Driver:
    """Query the driver and its GPUs.

    Args:
        context: whether to create a context on each GPU, which shows whether it is usable and how much memory is free.
    """
    outcome = child.python(
        _CHILD, "context" if context else "no context", timeout=TIMEOUT, interpreter=sys.executable, options=("-S",)
    )
    seen = outcome.reply
    if not outcome.ok or seen is None:
        steps.log("driver", "%s", outcome.ending)
        return Driver(outcome)
    if "missing" in seen:
        steps.log("driver", "%s", seen["missing"])
        return Driver(outcome, missing=seen["missing"])
    gpus = tuple(Gpu(**{**gpu, "capability": tuple(gpu["capability"])}) for gpu in seen["gpus"])
    version = (seen["driver"] // 1000, seen["driver"] % 1000 // 10)
    steps.log("driver", "%s, result %d, CUDA %d.%d, %d GPUs", seen["library"], seen["init"], *version, len(gpus))
    return Driver(outcome, "", seen["init"], version, seen["library"], gpus)


def visible() -> List[Gpu]:
    """Return the GPUs that CUDA programs started from here see; none without a working driver."""
    return list(query(context=True).gpus)
