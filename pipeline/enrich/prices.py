"""What a request to Gemini costs, by the table in `config/prices.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "config" / "prices.toml"


@cache
def table() -> dict[str, tuple[float, float]]:
    """Return US dollars for a million tokens in and out, by the beginning of the model's name."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {model: (float(row["input"]), float(row["output"])) for model, row in rows.items()}


def cost(models: tuple[str, ...], input_tokens: int, output_tokens: int) -> float | None:
    """Return an estimate in US dollars, by the first of the `models`' names that has a price; None: none has."""
    for model in models:
        known = [name for name in table() if model.startswith(name)]
        if known:
            price_in, price_out = table()[max(known, key=len)]
            return (input_tokens * price_in + output_tokens * price_out) / 1e6
    return None
