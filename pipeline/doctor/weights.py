"""Is a model.bin whole? Its own table of contents tells, without reading the weights or importing anything.

The layout is CTranslate2's (src/models/model.cc): a version, the model's kind, a revision, then each variable with its
name, shape, type and bytes; strings and counts come before what they count, little-endian.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

NEWEST = 6  # binary version that CTranslate2 4.8 reads
LFS = b"version https://git-lfs"


class Unfit(Exception):
    """The file will not do; `kind` is `lfs_pointer`, `empty`, `truncated` or `foreign`, `wanted` bytes if truncated."""

    def __init__(self, kind: str, reason: str = "", wanted: int = 0) -> None:
        super().__init__(reason or kind)
        self.kind = kind
        self.reason = reason
        self.wanted = wanted


def check(path: str) -> int:
    """Return the size of a whole model.bin in bytes.

    Raises:
        Unfit: it is none.
        OSError: it cannot be read.
    """
    size = os.path.getsize(path)
    if not size:
        raise Unfit("empty")
    with open(path, "rb") as file:
        if file.read(len(LFS)) == LFS:
            raise Unfit("lfs_pointer")
        file.seek(0)
        _walk(file, size)
    return size


def _walk(file: BinaryIO, size: int) -> None:
    def number(form: str) -> int:
        data = file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            raise Unfit("truncated", wanted=size + 1)
        return int(struct.unpack(form, data)[0])

    version = number("<I")
    if not 2 <= version <= NEWEST:
        raise Unfit("foreign", f"its first number is {version}")
    kind = file.read(number("<H")).rstrip(b"\0").decode("utf-8", "replace")
    if kind != "WhisperSpec":
        raise Unfit("foreign", f"it is a {kind[:40]}")
    number("<I")  # the revision of the kind
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
            raise Unfit("truncated", wanted=end)
