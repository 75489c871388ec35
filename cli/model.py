"""`model`: download the configured Whisper model now instead of at the first start of a worker."""

from __future__ import annotations

import argparse
import sys

from config import settings
from pipeline.transcribe import backends
from pipeline.transcribe.failures import ModelError


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe where the model is chosen; the command has no options."""
    parser.description = "Download the model of WHISPER_MODEL into WHISPER_MODEL_DIR and print its folder."


def run(_arguments: argparse.Namespace) -> int:
    """Download the model, or join its parts; 1 if that fails."""
    chosen = settings.get()
    try:
        model = chosen.whisper_model
        print(backends.create(model).resolve(model, chosen.whisper_model_dir))
    except ModelError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
