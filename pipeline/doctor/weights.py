"""Checking that a model.bin is complete, from the sizes in its headers and without reading the weights.

The layout is CTranslate2's (src/models/model.cc), little-endian: a version, the model's kind, a revision, then each
variable with its name, shape, type and bytes. Strings and arrays are prefixed with their lengths.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

NEWEST = 6  # binary version that CTranslate2 4.8 reads
LFS = b"version https://git-lfs"


class InvalidWeights(Exception):
    """The file is not a complete model; `kind` is `lfs_pointer`, `empty`, `truncated` or `foreign`.

    `wanted` is the least size in bytes of a truncated file.
    """

    def __init__(self, kind: str, reason: str = "", wanted: int = 0) -> None:
        super().__init__(reason or kind)
        self.kind = kind
        self.reason = reason
        self.wanted = wanted


def check(path: str) -> int:
    """Return the size of a complete model.bin in bytes.

    Raises:
        InvalidWeights: the file is not a complete model.
        OSError: the file cannot be read.
    """
    size = os.path.getsize(path)
    if not size:
        raise InvalidWeights("empty")
    with open(path, "rb") as file:
        if file.read(len(LFS)) == LFS:
            raise InvalidWeights("lfs_pointer")
        file.seek(0)
        _walk(file, size)
    return size


def _walk(file: BinaryIO, size: int) -> None:
    def number(form: str) -> int:
        data = file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise InvalidWeights("truncated", wanted=size + 1)
        return int(struct.unpack(form, data)[0])

    version = number("<I")
    if not 2 <= version <= NEWEST:
        raise InvalidWeights("foreign", f"its format version is {version}")
    kind = file.read(number("<H")).rstrip(b"\0").decode("utf-8", "replace")
    if kind != "WhisperSpec":
        raise InvalidWeights("foreign", f"it contains a {kind[:40]}")
    number("<I")  # the kind's revision
    for _ in range(number("<I")):
        file.seek(number("<H"), os.SEEK_CUR)
        file.seek(4 * number("<B"), os.SEEK_CUR)
        if version >= 4:
            number("<B")  # type
            length = number("<I")
        else:
            width = number("<B")
            length = width * number("<I")
        end = file.seek(length, os.SEEK_CUR)
        if end > size:
            raise InvalidWeights("truncated", wanted=end)
