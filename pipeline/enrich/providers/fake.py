"""A provider without a network: the same request always gets the same answer. For tests and for trying the pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from config.settings import Settings
from pipeline.enrich import parts
from pipeline.enrich.providers.base import (
    ModelReply,
    ModelRequest,
    Price,
    Provider,
    ProviderCapabilities,
    ProviderOptions,
)

MODEL = "fake-1"
OPTIONS = ProviderOptions(model=MODEL, max_output_tokens=16_384, requests_per_minute=0, tokens_per_minute=0)
CAPABILITIES = ProviderCapabilities(json_schema=True, counts_tokens=True, context_tokens=2**20)
TEXT = "Example"
FORMATS = {  # a text of each format that answers are held to
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "someone@example.com",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def connect(_settings: Settings) -> Provider:
    """Return a provider with the default options."""
    return FakeProvider()


class FakeProvider(Provider):
    """Answers each request with a document that fits its schema, or as `respond` decides."""

    name = "Fake"

    def __init__(
        self,
        respond: Callable[[ModelRequest], ModelReply] | None = None,
        *,
        options: ProviderOptions = OPTIONS,
        capabilities: ProviderCapabilities = CAPABILITIES,
    ) -> None:
        self.options = options
        self.capabilities = capabilities
        self._respond = respond or answer

    def generate(self, request: ModelRequest) -> ModelReply:
        """Return the answer to a request."""
        return self._respond(request)

    def count_tokens(self, model: str, text: str) -> int:  # noqa: ARG002 - all models count alike
        """Return about how many tokens `text` is."""
        return parts.estimate(text)

    def list_models(self) -> list[str]:
        """Return the one model."""
        return [self.options.model]

    def price(self, model: str) -> Price | None:
        """Return a price of zero for the one model."""
        return Price(0.0, 0.0) if model == self.options.model else None


def answer(request: ModelRequest, document: Any = None) -> ModelReply:
    """Return the reply with a document, by default the simplest that fits the request's schema."""
    text = json.dumps(example(request.schema) if document is None else document)
    return ModelReply(text, request.model, parts.estimate(request.text), parts.estimate(text))


def example(schema: dict[str, Any]) -> Any:
    """Return the simplest document that fits a schema: every field present, one item in each list."""
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    kind = next(kind for kind in kinds if kind != "null")
    if kind == "object":
        return {name: example(inner) for name, inner in schema["properties"].items()}
    if kind == "array":
        return [example(schema["items"])] * max(1, int(schema.get("minItems", 1)))
    if kind == "string":
        return schema["enum"][0] if "enum" in schema else FORMATS.get(schema.get("format", ""), TEXT)
    return {"number": 1.5, "integer": 1, "boolean": True}[kind]
