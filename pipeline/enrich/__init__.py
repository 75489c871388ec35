"""The enrich stage: a transcript in, a validated summary out. Importing it is cheap: `Enricher` loads the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.enrich.enricher import Enricher as Enricher

__all__ = ["Enricher"]


def __getattr__(name: str) -> Any:
    """Load the enricher when it is asked for: whoever reads `pipeline.enrich.record` need not pay for pydantic."""
    if name == "Enricher":
        from pipeline.enrich.enricher import Enricher  # noqa: PLC0415 - that is the point

        return Enricher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
