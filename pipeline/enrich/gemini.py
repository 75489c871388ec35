"""Gemini as the rest of this room sees it: one small interface, served by an adapter for each of Google's two SDKs.

No other module knows which SDK is in use; `GEMINI_SDK` chooses it.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from config.settings import Settings, SettingsError
from pipeline.network.deadline import within

ADAPTERS = {  # by the SDK's name: the module, and the extra of pyproject.toml that installs it
    "google-generativeai": ("pipeline.enrich.sdk_generativeai", "enrich"),
    "google-genai": ("pipeline.enrich.sdk_genai", "enrich-genai"),
}
CONNECTIONS = 64  # kept open by one process: more than a worker has threads
MOST_TOKENS = 2**21  # of one request; no model takes more
MAX_ANSWER = 8 * 2**20  # bytes, decompressed: 65,536 tokens, each a few characters escaped as \\uXXXX, are a quarter

Result = TypeVar("Result")
Kind = Literal["answered", "unreachable", "timeout", "broken"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One contribution to the conversation."""

    role: Literal["user", "model"]
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of Gemini."""

    model: str
    system: str
    turns: tuple[Turn, ...]
    schema: dict[str, Any]  # of the answer, in the subset of OpenAPI that Gemini takes, types in capitals
    max_output_tokens: int

    @property
    def text(self) -> str:
        """All that counts as input."""
        return self.system + "".join(turn.text for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Reply:
    """What Gemini answered; `text` is empty where it gave none."""

    text: str
    finish: str  # the first candidate's finishReason; empty: there is no candidate
    blocked: str  # promptFeedback's blockReason; empty: not blocked
    model: str  # the version that answered; empty: not told
    input_tokens: int
    output_tokens: int  # thoughts included


@dataclass(eq=False)  # not frozen, for a traceback is written to what passes through a context manager
class Refusal(Exception):
    """Gemini did not do what it was asked to.

    `kind` tells how far the request came: `answered` with an error of HTTP `status` whose JSON is `body`;
    `unreachable`: there is no connection; `timeout`: no answer in time; `broken`: the connection or answer was.
    """

    kind: Kind
    message: str
    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


class Gemini(Protocol):
    """What an adapter does. Each call is one HTTP request, never repeated by the SDK, and raises `Refusal` alone."""

    def generate(self, request: Request) -> Reply:
        """Ask for an answer."""
        ...

    def count(self, model: str, text: str) -> int:
        """Return how many tokens `text` is."""
        ...

    def models(self) -> list[str]:
        """Return the names of the models that the key may use to generate."""
        ...


def connect(settings: Settings) -> Gemini:
    """Return the SDK that `GEMINI_SDK` names, ready for use.

    Raises:
        SettingsError: it is not installed, or there is no key.
    """
    if settings.gemini_api_key is None:
        raise SettingsError("GEMINI_API_KEY is unset: enrichment needs a key")
    module, extra = ADAPTERS[settings.gemini_sdk]
    try:
        adapter = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("google"):
            raise
        raise SettingsError(
            f"GEMINI_SDK is {settings.gemini_sdk!r}, which is not installed: pip install '.[{extra}]'"
        ) from None
    client: Gemini = adapter.Client(
        settings.gemini_api_key.get_secret_value(), settings.gemini_endpoint, settings.gemini_timeout
    )
    return client


def in_time(seconds: float, ask: Callable[[], Result]) -> Result:
    """Return what `ask` returns; no server that dribbles, and no name server, holds it up for longer than `seconds`.

    Raises:
        Refusal: the time is over.
    """
    try:
        return within(seconds, ask)
    except TimeoutError:
        raise Refusal("timeout", "no answer in time") from None


def read(status: int, pieces: Iterable[bytes], seconds: float) -> bytes:
    """Return the body of an answer of HTTP `status`, read from `pieces` as they come.

    Redirects are not followed: the SDKs would take key and transcript along to wherever they lead.

    Raises:
        Refusal: it is an error, or none of Gemini's answers: it has no end, is no JSON, or leads elsewhere.
    """
    end = time.monotonic() + seconds
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > MAX_ANSWER:
            raise Refusal("broken", "the answer is longer than any of Gemini's")
        if time.monotonic() > end:  # nobody waits for it any more
            raise Refusal("timeout", "no answer in time")
    if 300 <= status < 400:
        raise Refusal("broken", f"Gemini's address leads to another (HTTP {status}), which is not followed")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if status >= 400:
        raise _refused(status, document)
    if not isinstance(document, dict):
        raise Refusal("broken", "the answer is not one of Gemini's")
    return bytes(body)


def _refused(status: int, body: Any) -> Refusal:
    """Return the refusal that an HTTP error is: `body` is its JSON where it is Google's, anything otherwise."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return Refusal("answered", f"HTTP {status}", status)
    return Refusal("answered", str(error.get("message") or f"HTTP {status}"), status, error)


def tokens(count: Any) -> int:
    """Return a number of tokens as it can be: by one out of all proportion other jobs would wait for days."""
    return min(max(0, int(count or 0)), MOST_TOKENS)


def no_connection(error: BaseException) -> bool:
    """Whether the cause of an HTTP client's error is that nothing listens at the address, or that it has none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError) or type(cause).__name__ in ("gaierror", "NameResolutionError"):
            return True
        inner = getattr(cause, "reason", None)  # urllib3 keeps the cause here
        held = [argument for argument in cause.args if isinstance(argument, BaseException)]
        cause = next(
            (
                found
                for found in (inner, *held, cause.__cause__, cause.__context__)
                if isinstance(found, BaseException) and found is not cause
            ),
            None,
        )
    return False
