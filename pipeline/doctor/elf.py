"""Reading shared libraries without loading them, since a damaged one can kill the process that loads it.

Sources of the numbers: the ELF-64 object file format, elf.h, and the fatbin headers that nvcc writes.
"""

from __future__ import annotations

import mmap
import os
import platform
import re
import struct
from dataclasses import dataclass
from typing import Dict, List, Tuple

MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of the processors that NVIDIA supports
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK, _EXECUTABLE = 1, 2, 0x6474E551, 1
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 14, 15, 29
_FATBIN = 0xBA55ED50  # first word of a container in the section .nv_fatbin
_PTX, _MACHINE_CODE = 1, 2  # kinds of entries in a container
_OPENED = re.compile(rb"\x00(lib(?:cuda|cudart|cublas|cublasLt|cudnn|nvrtc)[A-Za-z0-9_-]*\.so(?:\.[0-9]+)*)(?=\x00)")


class Damaged(Exception):
    """The file is not a complete library for this machine; `kind` is `empty`, `truncated`, `foreign` or `not_elf`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True)
class Library:
    """What a library contains for the loader and for the driver.

    `opened` are the names of CUDA libraries that it opens at run time. `machine_code` and `ptx` are architectures of
    GPUs as (major, minor). `ptx_version` is the newest version of the PTX language in it, (0, 0) without PTX.
    """

    path: str
    soname: str
    needed: Tuple[str, ...]
    opened: Tuple[str, ...]
    executable_stack: bool
    machine_code: Tuple[Tuple[int, int], ...]
    ptx: Tuple[Tuple[int, int], ...]
    ptx_version: Tuple[int, int]


def check(path: str) -> None:
    """Check the headers of a file for damage that would make the loader fail or crash.

    Raises:
        Damaged: the file is not a complete library for this machine.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        _segments(file.read(1 << 16), os.fstat(file.fileno()).st_size)


def read(path: str, *, deep: bool = True) -> Library:
    """Read a library.

    Args:
        path: the file.
        deep: whether to read the whole file, for `opened`, `machine_code` and `ptx`; cuBLAS alone has 700 MB.

    Raises:
        Damaged: the file is not a complete library for this machine.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise Damaged("empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(path, data, size, deep)
            except (struct.error, StopIteration, IndexError):
                raise Damaged("truncated") from None


def _read(path: str, data: mmap.mmap, size: int, deep: bool) -> Library:
    segments = _segments(data[: 1 << 16], size)
    tags = _dynamic(data, segments)

    def strings(tag: int) -> List[str]:
        return [text for kind, text in tags if kind == tag]

    code, ptx, newest = _fatbin(data) if deep else ((), (), (0, 0))
    return Library(
        path=path,
        soname=(strings(_DT_SONAME) or [""])[0],
        needed=tuple(strings(_DT_NEEDED)),
        opened=tuple(sorted({name.decode() for name in _OPENED.findall(data)})) if deep else (),
        executable_stack=any(kind == _PT_GNU_STACK and flags & _EXECUTABLE for kind, flags, *_ in segments),
        machine_code=code,
        ptx=ptx,
        ptx_version=newest,
    )


def _segments(head: bytes, size: int) -> List[Tuple[int, int, int, int, int]]:
    """Return type, flags, offset, address and length of each segment; raise `Damaged` for what cannot be loaded."""
    if not size:
        raise Damaged("empty")
    if head[:4] != b"\x7fELF":
        raise Damaged("not_elf")
    if len(head) < 64:
        raise Damaged("truncated")
    if head[4] != 2 or struct.unpack_from("<H", head, 18)[0] != MACHINES.get(platform.machine(), 62):
        raise Damaged("foreign")
    table, sections = struct.unpack_from("<QQ", head, 0x20)
    step, count, section_step, section_count = struct.unpack_from("<HHHH", head, 0x36)
    if table + step * count > min(len(head), size) or sections + section_step * section_count > size:
        raise Damaged("truncated")
    found = []
    for index in range(count):
        kind, flags, offset, address, _, length = struct.unpack_from("<IIQQQQ", head, table + index * step)
        if kind == _PT_LOAD and offset + length > size:
            raise Damaged("truncated")
        found.append((kind, flags, offset, address, length))
    return found


def _dynamic(data: mmap.mmap, segments: List[Tuple[int, int, int, int, int]]) -> List[Tuple[int, str]]:
    """Return the entries of the dynamic section whose values are strings."""
    offset, length = next((s[2], s[4]) for s in segments if s[0] == _PT_DYNAMIC)
    entries = []
    strings = 0
    for place in range(offset, offset + length, 16):
        tag, value = struct.unpack_from("<qQ", data, place)
        if tag == 0:
            break
        if tag == _DT_STRTAB:
            strings = value
        if tag in (_DT_NEEDED, _DT_SONAME, _DT_RPATH, _DT_RUNPATH):
            entries.append((tag, value))
    base = next(strings - a + o for k, _, o, a, n in segments if k == _PT_LOAD and a <= strings < a + n)
    return [(tag, data[base + value : data.find(b"\0", base + value)].decode()) for tag, value in entries]


def _fatbin(
    data: mmap.mmap,
) -> Tuple[Tuple[Tuple[int, int], ...], Tuple[Tuple[int, int], ...], Tuple[int, int]]:
    """Return the architectures of machine code and of PTX, and the newest version of the PTX language."""
    table = struct.unpack_from("<Q", data, 0x28)[0]
    step, count, names = struct.unpack_from("<HHH", data, 0x3A)
    if not count:
        return (), (), (0, 0)
    sections = [struct.unpack_from("<IIQQQQ", data, table + index * step) for index in range(count)]
    text = sections[names][4]
    found: Dict[int, set] = {_PTX: set(), _MACHINE_CODE: set()}  # type: ignore[type-arg]
    newest = (0, 0)
    for section in sections:
        start = text + section[0]
        if data[start : data.find(b"\0", start)] not in (b".nv_fatbin", b"__nv_relfatbin"):
            continue
        place, end = section[4], section[4] + section[5]
        while place + 16 <= end:
            magic, _, head, length = struct.unpack_from("<IHHQ", data, place)
            if magic != _FATBIN:
                place += 8
                continue
            entry, place = place + head, place + head + length
            while entry + 64 <= place:
                kind, _, entry_head, entry_length = struct.unpack_from("<HHIQ", data, entry)
                minor, major, architecture = struct.unpack_from("<HHI", data, entry + 24)
                if kind in found:
                    found[kind].add((architecture // 10, architecture % 10))
                if kind == _PTX:
                    newest = max(newest, (major, minor))
                entry += entry_head + entry_length
    return tuple(sorted(found[_MACHINE_CODE])), tuple(sorted(found[_PTX])), newest
