"""Commands for a person to paste into a shell."""

from __future__ import annotations

import os
import shlex


def command(*words: object) -> str:
    """Return a command line in which each word is quoted for a shell."""
    return " ".join(shlex.quote(str(word)) for word in words)


def absolute(path: str) -> str:
    """Return the absolute form of a path, which no program mistakes for an option.

    The path is not normalized, since `..` behind a symbolic link is not the folder that the text suggests.
    """
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
