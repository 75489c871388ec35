"""What Dramatiq runs: the three actors, one process group each. A backend needs only `from actors import decode`.

Importing this package declares nothing. `actors.decode` is the actor in every order of imports, although a module of
the same name holds it; `dramatiq actors.decode` runs that module.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.decode import decode as decode


class _Actors(types.ModuleType):
    """This package's own type, so that the name `decode` can be the actor and not its module."""

    @property
    def decode(self) -> Any:
        return importlib.import_module("actors.decode").decode

    @decode.setter
    def decode(self, _module: types.ModuleType) -> None:
        """Ignore the submodule that the import system would put in the actor's place."""


sys.modules[__name__].__class__ = _Actors

if "dramatiq.cli" in sys.modules:
    from actors import unnamed

    unnamed.load_stages()
