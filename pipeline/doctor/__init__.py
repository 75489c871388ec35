"""The doctor: is this machine fit for the work, and which command mends it?

Standard library alone and the grammar of Python 3.8: it runs on a bare machine, before anything is installed, and
reports a missing package instead of dying of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from pipeline.doctor.report import Report

__all__ = ["diagnose", "main"]


def diagnose(*arguments: Any, **options: Any) -> Report:
    """Examine this machine: see `pipeline.doctor.examination.diagnose`."""
    from pipeline.doctor import examination  # the pool's children import this package for one module alone

    return examination.diagnose(*arguments, **options)


def main(argv: List[str]) -> int:
    """Run the command `doctor` and return its exit code."""
    from pipeline.doctor import cli

    return cli.main(argv)
