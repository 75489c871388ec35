"""Which GPUs are there, asked of the driver in a process of its own: whoever asks never initialises CUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

TIMEOUT = 10.0  # seconds; a healthy driver answers in a fraction of one

# Attributes of cuDeviceGetAttribute: 75 and 76 are the compute capability, major and minor (CUDA driver API).
_CHILD = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
found, count = [], ctypes.c_int()
if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
    for index in range(count.value):
        device, name, size = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
        uuid, major, minor = (ctypes.c_ubyte * 16)(), ctypes.c_int(), ctypes.c_int()
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, 128, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        cuda.cuDeviceGetUuid(ctypes.byref(uuid), device)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
        text = bytes(uuid).hex()
        parts = [text[:8], text[8:12], text[12:16], text[16:20], text[20:]]
        found.append([index, "GPU-" + "-".join(parts), name.value.decode(), size.value, [major.value, minor.value]])
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Gpu:
    """A GPU that CUDA shows to this process."""

    index: int
    uuid: str
    name: str
    memory_total: int  # bytes
    capability: tuple[int, int]  # compute capability, such as (9, 0)


def visible() -> list[Gpu]:
    """Return the GPUs that CUDA programs started from here would see; none where there is no driver that works."""
    try:
        asked = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", "-c", _CHILD], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
    except (subprocess.SubprocessError, OSError):
        return []
    return [
        Gpu(index, uuid, name, size, (major, minor))
        for index, uuid, name, size, (major, minor) in json.loads(asked.stdout)
    ]
