"""Commands for a person to paste into a shell."""

from __future__ import annotations

import os
import shlex


def command(*words: object) -> str:
    """Return a command in which a shell takes each of the words for exactly one word."""
    return " ".join(shlex.quote(str(word)) for word in words)


def absolute(path: str) -> str:
    """Return a path as seen from any folder; it cannot begin with a hyphen, and so not be taken for an option.

    Nothing is normalized: beyond a symbolic link, `..` is not the folder that the text suggests.
    """
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
