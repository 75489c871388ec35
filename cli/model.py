"""`model`: the configured Whisper model, fetched now instead of at the first start of a worker."""

from __future__ import annotations

import argparse
import sys

from config import settings
from pipeline.transcribe import backends
from pipeline.transcribe.failures import ModelError


def configure(parser: argparse.ArgumentParser) -> None:
    """Say where the choice is made: the command takes no options of its own."""
    parser.description = "Fetch the model of WHISPER_MODEL into WHISPER_MODEL_DIR and print its folder."


def run(_arguments: argparse.Namespace) -> int:
    """Fetch or join the model; 1 where it cannot be had, with the reason in a line."""
    chosen = settings.get()
    try:
        model = chosen.whisper_model
        print(backends.create(model).resolve(model, chosen.whisper_model_dir))
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
