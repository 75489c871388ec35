"""The price of a model, by the table in `config/prices.toml` that operators correct."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pipeline.enrich.providers.base import Price

TABLE = Path(__file__).resolve().parents[3] / "config" / "prices.toml"


def price(model: str) -> Price | None:
    """Return the price in the row with the longest name that the model's begins with; None: there is no such row."""
    known = [name for name in _rows() if model.startswith(name)]
    return _rows()[max(known, key=len)] if known else None


@cache
def _rows() -> dict[str, Price]:
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {model: Price(float(row["input"]), float(row["output"])) for model, row in rows.items()}
