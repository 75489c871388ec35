"""What Dramatiq runs: one module for each stage (`dramatiq actors.decode`), and what their workers are made of.

`from actors import decode` is the client's actor, the same object as `from voicemill import decode`, in every order of
imports, although a module of the same name runs the stage. Importing this package declares nothing.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voicemill import decode as decode


class _Actors(types.ModuleType):
    """This package's own type, so that the name `decode` can be the actor and not its module."""

    @property
    def decode(self) -> Any:
        from voicemill import decode  # noqa: PLC0415 - when it is asked for

        return decode

    @decode.setter
    def decode(self, _module: types.ModuleType) -> None:
        """Ignore the submodule that the import system would put in the actor's place."""


sys.modules[__name__].__class__ = _Actors

if "dramatiq.cli" in sys.modules:
    from actors import by_queue

    by_queue.load_stages()
