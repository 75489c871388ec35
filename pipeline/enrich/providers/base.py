"""The interface between enrichment and the API of a language model.

A provider turns a `ModelRequest` into one HTTP request, and what comes back into a `ModelReply` or a classified
`ProviderError`. Its prices, the dialect of its schemas and the meaning of its errors are its own. What is the same for
all providers stays outside this package: retries, rate limits, the circuit breaker, redaction, the account of costs and
the validation of answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from config.settings import SettingsError
from pipeline.enrich.sanitize import one_line
from voicemill.errors import ErrorCode

MAX_MESSAGE = 200  # characters of a provider's own words that go into a job record


class NotConfigured(SettingsError):
    """The provider's key is unset, so that no summaries can be written."""


class ErrorKind(StrEnum):
    """What a provider's failure means. Each value is the error code of a job that ends with it."""

    # There is no answer.
    INVALID_KEY = "enrich_invalid_key"
    FORBIDDEN = "enrich_forbidden"
    UNKNOWN_MODEL = "enrich_unknown_model"
    INVALID_REQUEST = "enrich_invalid_request"
    RATE_LIMITED = "enrich_rate_limited"
    QUOTA_EXHAUSTED = "enrich_quota_exhausted"  # of a day or a month: no request succeeds for hours
    UNAVAILABLE = "enrich_unavailable"
    TIMEOUT = "enrich_timeout"
    # There is an answer, which counts and costs like any other, but it holds no complete document.
    BLOCKED = "enrich_blocked"
    RECITATION = "enrich_recitation"
    TRUNCATED = "enrich_truncated"
    EMPTY = "enrich_empty"

    @property
    def code(self) -> ErrorCode:
        """The error code of a job that ends with this failure."""
        return ErrorCode[f"ENRICH_{self.name}"]


OUTAGES = (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)  # the API itself is in trouble, whatever the request
ANSWERED = (ErrorKind.BLOCKED, ErrorKind.RECITATION, ErrorKind.TRUNCATED, ErrorKind.EMPTY)  # found in a reply


class ProviderError(Exception):
    """A request failed.

    Attributes:
        kind: what it means for the job and for other requests.
        message: one printable line for the job record; never the key, and nothing of the transcript.
        retry_after: seconds after which the API takes requests again, where it says so.
        unreachable: no connection could be made at all; further requests are pointless for now.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, retry_after: float | None = None, unreachable: bool = False
    ) -> None:
        self.kind = kind
        self.message = one_line(message)[:MAX_MESSAGE].rstrip(". ")
        self.retry_after = retry_after
        self.unreachable = unreachable
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class Turn:
    """One contribution to the conversation."""

    role: Literal["user", "model"]
    text: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A prompt and the shape of the answer."""

    model: str
    system: str
    turns: tuple[Turn, ...]
    schema: dict[str, Any]  # of the answer: JSON Schema, limited to what `pipeline.enrich.schema` describes
    max_output_tokens: int

    @property
    def text(self) -> str:
        """Everything that counts as input."""
        return self.system + "".join(turn.text for turn in self.turns)


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A model's answer and what it used."""

    text: str  # JSON, as the model wrote it: not yet validated
    model: str  # the version that answered; empty: the API does not say
    input_tokens: int
    output_tokens: int  # those spent on thinking included
    error: ProviderError | None = None  # why `text` is no complete document, a kind of `ANSWERED`; None: it is one


@dataclass(frozen=True, slots=True)
class ProviderCapabilities:
    """What an API offers; enrichment makes up for what is missing."""

    json_schema: bool  # it holds answers to the schema; otherwise the schema is added to the system instruction
    counts_tokens: bool  # it counts the tokens of a text; otherwise they are estimated
    context_tokens: int  # that a model reads at most; longer transcripts are summarised in parts


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What the operator has set for a provider."""

    model: str  # unless a call names another
    max_output_tokens: int
    requests_per_minute: int  # over all workers; 0: unlimited
    tokens_per_minute: int  # of input, over all workers; 0: unlimited


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return what a request costs, in US dollars."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


class Provider(ABC):
    """An API that writes JSON documents. Safe to use from many threads.

    `generate`, `count_tokens` and `list_models` make one HTTP request each, which neither they nor the SDK repeat: the
    queue retries. They raise `ProviderError` and nothing else for whatever the API or the network does.

    Attributes:
        name: of the API, for log lines and messages.
        capabilities: what the API offers.
        options: what the operator has set.
    """

    name: str
    capabilities: ProviderCapabilities
    options: ProviderOptions

    @abstractmethod
    def generate(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer; one without a complete document has its `error` set."""

    @abstractmethod
    def count_tokens(self, model: str, text: str) -> int:
        """Return the number of tokens in `text`; called only where the API counts them."""

    @abstractmethod
    def list_models(self) -> list[str]:
        """Return the models that the key may use to generate text."""

    @abstractmethod
    def price(self, model: str) -> Price | None:
        """Return the price of a model; None: unknown."""

    def model_id(self, name: str) -> str:
        """Return the one name under which a model is requested, limited and recorded."""
        return name

    def translate_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a request's schema in the dialect of the API; by default JSON Schema as it is."""
        return schema
