"""`doctor`: check this machine. The work is that of pipeline/doctor, which runs where nothing is installed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pipeline import doctor
from pipeline.doctor import cli


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the doctor's options, for the reference and for completion."""
    for action in cli._parser()._actions:  # noqa: SLF001 - the doctor's parser is its own
        if not isinstance(action, argparse._HelpAction):  # noqa: SLF001
            parser._add_action(action)  # noqa: SLF001


def main(argv: Sequence[str]) -> int:
    """Check this machine, print the report, and return the exit code."""
    return int(doctor.main(list(argv)))
