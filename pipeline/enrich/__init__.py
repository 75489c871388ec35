"""The enrich stage: writes a validated summary of a transcript. Importing it is cheap; `Enricher` loads the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.enrich.enricher import Enricher as Enricher

__all__ = ["Enricher"]


def __getattr__(name: str) -> Any:
    """Load the enricher on first use, so that importing `pipeline.enrich.memory` does not import pydantic."""
    if name == "Enricher":
        from pipeline.enrich.enricher import Enricher  # noqa: PLC0415 - loaded on first use

        return Enricher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
