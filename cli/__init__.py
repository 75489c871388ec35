"""The commands that need a clone: each module has `configure(parser)` and `run(arguments) -> exit code`.

`voicemill/_cli` loads them, and calls the functions below before and after them.
"""

from __future__ import annotations

import sys

from config import environment

USAGE = 2  # exit code


def load_environment() -> None:
    """Put `.env` into the process's environment, and the address of the embedded Redis that `up` runs.

    Raises:
        DotenvError: `.env` cannot be read.
    """
    environment.load()


def configure_logging() -> None:
    """Log warnings to standard error, as the stages format them for a terminal."""
    from config import logging  # noqa: PLC0415 - structlog, which most commands do not need

    logging.configure("warning", "console")


def explain(error: Exception) -> tuple[str, int] | None:
    """Return the line that explains an error of the clone's own packages, and its exit code; None: it is another."""
    if isinstance(error, environment.DotenvError):
        return str(error), USAGE
    settings = sys.modules.get("config.settings")  # what raises SettingsError has been imported
    if settings is not None and isinstance(error, settings.SettingsError):
        return str(error), USAGE
    return None
