"""The language models that can write summaries, one module for each SDK.

To add one, write a module with a subclass of `base.Provider` and a function `connect(settings)`, and add it to
`REGISTRY`.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

from config.settings import Settings, SettingsError
from pipeline.enrich.providers.base import Provider


class _Entry(NamedTuple):
    module: str  # of this package; its `connect(settings)` returns a `Provider`
    extra: str  # of pyproject.toml, which installs what the module imports


REGISTRY = {  # by the value of GEMINI_SDK
    "google-generativeai": _Entry("google_generativeai", "enrich"),
    "google-genai": _Entry("google_genai", "enrich-genai"),
    "fake": _Entry("fake", "enrich"),
}


def connect(settings: Settings, name: str | None = None) -> Provider:
    """Return a provider that is ready for requests; only its own SDK is imported.

    Args:
        settings: the operator's; each provider reads its own key, address, model and limits from them.
        name: a key of `REGISTRY`; None: the one that `GEMINI_SDK` selects.

    Raises:
        NotConfigured: the provider's key is unset.
        SettingsError: there is no such provider, its SDK is not installed, or one of its settings is invalid.
    """
    name = settings.gemini_sdk if name is None else name
    if name not in REGISTRY:
        raise SettingsError(f"GEMINI_SDK is {name!r}: takes {', '.join(REGISTRY)}")
    entry = REGISTRY[name]
    try:
        module = importlib.import_module(f"{__name__}.{entry.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "pipeline":
            raise
        raise SettingsError(f"GEMINI_SDK is {name!r}, which is not installed: pip install '.[{entry.extra}]'") from None
    provider: Provider = module.connect(settings)
    return provider
