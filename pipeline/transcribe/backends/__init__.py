"""Speech engines. The prefix of a model's name selects one: `fake:…` is the fake's, any other name is Whisper's.

To add a backend, write its module (see base.py) and add its line to `BACKENDS`.
"""

from __future__ import annotations

from importlib import import_module

from pipeline.transcribe.backends.base import Backend, DecodingSettings

DEFAULT = "whisper:Whisper"
BACKENDS = {  # prefix of the model's name -> module and class
    "fake": "fake:Fake",
}


def create(model: str, settings: DecodingSettings | None = None) -> Backend:
    """Return the backend of the model called `model`; only that backend's module is imported.

    Raises:
        EngineError: the settings are invalid.
    """
    module, _, name = BACKENDS.get(model.partition(":")[0], DEFAULT).partition(":")
    backend: type[Backend] = getattr(import_module(f"{__name__}.{module}"), name)
    return backend.create(model, settings or DecodingSettings())
