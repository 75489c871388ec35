"""`settings`: print the settings of the workers on this machine, secrets masked."""

from __future__ import annotations

import argparse

from config import settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--example", action="store_true", help="print .env.example: every setting with its description")


def run(arguments: argparse.Namespace) -> int:
    """Print the settings."""
    if arguments.example:
        print(settings.example(), end="")
        return 0
    shown = settings.effective(settings.get())
    width = max(map(len, shown))
    for name, value in shown.items():
        print(f"{name:<{width}}  {value}")
    return 0
