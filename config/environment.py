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


def values() -> dict[str, str]:
    """Return every variable that counts: `.env` beside the Procfile, overruled by the process's own environment.

    Where neither names a `REDIS_URL`, the address of the embedded Redis that `python -m pipeline up` runs in this clone
    is taken, if there is one. An empty variable counts as unset, as in `NAME= command`.
    """
    found: dict[str, str] = {}
    with suppress(OSError, UnicodeDecodeError):
        found.update(parse_dotenv((ROOT / ".env").read_text(encoding="utf-8")))
    found.update(os.environ)
    found = {name: value for name, value in found.items() if value.strip() and "\0" not in value}
    if "REDIS_URL" not in found and embedded_redis():
        found["REDIS_URL"] = embedded_redis()
    return found


def embedded_redis() -> str:
    """Return the address of the Redis that `python -m pipeline up` runs in this clone; empty: none does."""
    with suppress(OSError):
        return REDIS_URL_FILE.read_text(encoding="utf-8").strip()
    return ""


def load() -> None:
    """Put `values()` into the process's environment, so that what comes after, child processes too, sees the same."""
    os.environ.update(values())
