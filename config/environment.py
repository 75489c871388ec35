"""The environment as Voicemill sees it: the process's variables over those of `.env`, and nothing else.

Standard library alone and the grammar of Python 3.8, since the doctor reads it on a bare machine. It is the only reader
of `.env`.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder of the Procfile
STATE = ROOT / ".voicemill"  # what `up` leaves here while it runs: the embedded Redis, its data, its address
REDIS_URL_FILE = STATE / "redis.url"

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")


def parse_dotenv(text: str) -> dict[str, str]:
    """Read `NAME=value` lines: quotes are taken off, ` # comments` end an unquoted value, other lines are ignored."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match or line.lstrip().startswith("#"):
            continue
        name, value = match.groups()
        quote = value[:1]
        if quote in ("'", '"') and value.find(quote, 1) > 0:
            value = value[1 : value.find(quote, 1)]
        else:
            value = re.split(r"(?:^|\s+)#", value, maxsplit=1)[0].rstrip()
        found[name] = value
    return found


class DotenvError(Exception):
    """`.env` is there and cannot be read; the message says which file and why."""


def dotenv() -> dict[str, str]:
    """Return the variables of the `.env` beside the Procfile; none where there is no such file.

    Raises:
        DotenvError: it cannot be read, or is not UTF-8.
    """
    path = ROOT / ".env"
    try:
        return parse_dotenv(path.read_text(encoding="utf-8-sig"))  # editors on Windows begin a file with a mark
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DotenvError(f"{path} cannot be read: line {line} is not UTF-8, as which it has to be saved") from None
    except OSError as error:
        raise DotenvError(f"{path} cannot be read: {error.strerror}") from None


def values(*, strict: bool = True) -> dict[str, str]:
    """Return every variable that counts: `.env` beside the Procfile, overruled by the process's own environment.

    Where neither names a `REDIS_URL`, the address of the embedded Redis that `voicemill up` runs in this clone
    is taken, if there is one. An empty variable counts as unset, as in `NAME= command`.

    Raises:
        DotenvError: `.env` cannot be read; where not `strict`, it is passed over.
    """
    found: dict[str, str] = {}
    try:
        found.update(dotenv())
    except DotenvError:
        if strict:
            raise
    found.update(os.environ)
    found = {name: value for name, value in found.items() if value.strip() and "\0" not in value}
    if "REDIS_URL" not in found and embedded_redis():
        found["REDIS_URL"] = embedded_redis()
    return found


def embedded_redis() -> str:
    """Return the address of the Redis that `voicemill up` runs in this clone; empty: none does."""
    with suppress(OSError):
        return REDIS_URL_FILE.read_text(encoding="utf-8").strip()
    return ""


def load(*, strict: bool = True) -> None:
    """Put `values()` into the process's environment, so that what comes after, child processes too, sees the same.

    Raises:
        DotenvError: `.env` cannot be read; where not `strict`, it is passed over.
    """
    os.environ.update(values(strict=strict))
