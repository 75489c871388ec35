"""Numbers that the backend's path reads from the environment itself, since the settings are too heavy for it.

Part of the backend's path: the standard library, nothing else. Workers are held to config/settings.py.
"""

from __future__ import annotations

import math
import os

from voicemill.errors import JobError


def number(variable: str, default: float) -> float:
    """Return the number in an environment variable, at least 1; `default` where it is unset or empty.

    Raises:
        JobError: `invalid_settings`: it holds something else.
    """
    text = os.environ.get(variable, "").strip()
    try:
        found = float(text or default)
    except ValueError:
        found = math.nan
    if not 1 <= found < math.inf:
        raise JobError("invalid_settings", f"{variable} is {text!r}: it takes a number of at least 1")
    return found
