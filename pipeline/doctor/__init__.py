"""The doctor checks whether a machine can run Voicemill and names the command that fixes each problem.

Standard library alone and the grammar of Python 3.8: it runs on a bare machine, before anything is installed, and
reports a missing package instead of failing on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from pipeline.doctor.report import Report

__all__ = ["diagnose", "main"]


def diagnose(*arguments: Any, **options: Any) -> Report:
    """Check this machine; see `pipeline.doctor.examination.diagnose`."""
    from pipeline.doctor import examination  # slots import this package for `libraries` alone

    return examination.diagnose(*arguments, **options)


def main(argv: List[str]) -> int:
    """Run the command `doctor` and return its exit code."""
    from pipeline.doctor import cli

    return cli.main(argv)
