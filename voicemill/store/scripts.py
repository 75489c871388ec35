"""The registry of Lua scripts: each is a file with a header that names its keys and arguments.

The client's scripts lie beside this module. Behaviour that only workers need keeps its scripts in its own package and
loads them with `load`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import redis
from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from redis import asyncio as aioredis

FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the digest by which a server that has seen it knows it."""

    text: str
    digest: str

    def run(self, client: redis.Redis, keys: list[str], *arguments: Any) -> Any:
        """Run the script and return its answer; the text is sent only to a server that does not know it."""
        try:
            return client.evalsha(self.digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)

    async def run_async(self, client: aioredis.Redis, keys: list[str], *arguments: Any) -> Any:
        """Run the script on a client for asyncio, as `run` does."""
        try:
            return await cast("Any", client.evalsha(self.digest, len(keys), *keys, *arguments))
        except NoScriptError:
            return await cast("Any", client.eval(self.text, len(keys), *keys, *arguments))


@cache
def load(file: Path) -> Script:
    """Return the script in a file."""
    text = file.read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def named(name: str) -> Script:
    """Return one of the client's own scripts."""
    return load(FOLDER / f"{name}.lua")
