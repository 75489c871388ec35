"""Small messages within the URL itself: `data:` URLs (RFC 2397)."""

from __future__ import annotations

import base64
import binascii
from io import BufferedReader
from pathlib import Path
from urllib.parse import unquote_to_bytes

from pipeline.decode.sources.disk import save
from voicemill.errors import ErrorCode, JobError


def fetch(uri: str, folder: Path, limit: int) -> BufferedReader:
    """Write the bytes of a `data:` URL to `folder` and open them. Its media type is ignored.

    Raises:
        JobError: `source_unsupported`: it is not such a URL; `source_too_large`; `disk_full`.
    """
    head, comma, body = uri.partition(",")
    if not comma:
        raise JobError(ErrorCode.SOURCE_UNSUPPORTED, "a data: URL needs a comma before its data")
    data = unquote_to_bytes(body)
    if head.lower().rstrip().endswith(";base64"):
        data = data.translate(None, b" \t\r\n")
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except binascii.Error as error:
            raise JobError(ErrorCode.SOURCE_UNSUPPORTED, f"the data: URL is not base64: {error}") from None
    return save([data], folder, limit)
