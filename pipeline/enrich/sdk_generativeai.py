"""Gemini through google-generativeai, the SDK that came first; Google ended its support on 2025-11-30.

It is used over REST: gRPC would ignore a plain-HTTP endpoint. Its client is one for the whole process.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipeline.enrich.gemini import CONNECTIONS, Refusal, Reply, Request, in_time, no_connection, read, tokens

with warnings.catch_warnings():
    # The README says both once; a worker's log need not say them at every start.
    warnings.filterwarnings("ignore", message=r"\s*All support for the `google.generativeai`", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"You are using a Python version", category=FutureWarning)
    import google.generativeai as _sdk
    from google.generativeai import client as sdk_client
    from google.generativeai import protos
    from google.protobuf import json_format

sdk: Any = _sdk  # it says not what it exports

# A schema's words have fields of the same name, but for these.
_WORDS = {"type": "type_", "format": "format_", "minItems": "min_items", "maxItems": "max_items"}


class Client:
    """The adapter; see `pipeline.enrich.gemini.Gemini` for what its methods promise."""

    def __init__(self, key: str, endpoint: str | None, timeout: float) -> None:
        options = {"api_endpoint": endpoint} if endpoint else None
        sdk.configure(api_key=key, transport="rest", client_options=options)
        self._timeout = timeout
        self._options: dict[str, Any] = {"timeout": timeout, "retry": None}  # the queue tries again, not the SDK
        services: tuple[Any, ...] = (sdk_client.get_default_generative_client(), sdk_client.get_default_model_client())
        for service in services:
            session = service.transport._session  # noqa: SLF001 - neither its ten connections nor its
            session.hooks["response"].append(self._read)
            session._max_refresh_attempts = 0  # noqa: SLF001 - repetition of a refused request are settings
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS)
            session.mount("https://", adapter)
            session.mount("http://", adapter)

    def generate(self, request: Request) -> Reply:
        """Ask for an answer."""
        model = sdk.GenerativeModel(
            request.model,
            system_instruction=request.system,
            generation_config={
                "response_mime_type": "application/json",
                "response_schema": _schema(request.schema),
                "max_output_tokens": request.max_output_tokens,
                "temperature": 0.2,
            },
        )
        turns = [{"role": turn.role, "parts": [turn.text]} for turn in request.turns]
        return _reply(self._call(lambda: model.generate_content(turns, request_options=self._options)))

    def count(self, model: str, text: str) -> int:
        """Return how many tokens `text` is."""
        counted = self._call(lambda: sdk.GenerativeModel(model).count_tokens(text, request_options=self._options))
        return tokens(counted.total_tokens)

    def models(self) -> list[str]:
        """Return the names of the models that the key may use to generate."""
        found = self._call(lambda: list(sdk.list_models(request_options=self._options)))
        return [
            model.name.removeprefix("models/")
            for model in found
            if "generateContent" in model.supported_generation_methods
        ]

    def _call(self, ask: Any) -> Any:
        try:
            return in_time(self._timeout, ask)
        except requests.exceptions.Timeout:
            raise Refusal("timeout", "no answer in time") from None
        except requests.exceptions.RequestException as error:
            if no_connection(error):
                raise Refusal("unreachable", "Gemini's address cannot be reached") from None
            raise Refusal("broken", "the connection broke off") from None
        except (json_format.ParseError, ValueError, RecursionError):
            raise Refusal("broken", "the answer is not one of Gemini's") from None

    def _read(self, response: requests.Response, **_: Any) -> None:
        """Read an answer before requests or the SDK do, which know no bounds and fail at errors not Google's own."""
        try:
            response._content = read(response.status_code, _pieces(response), self._timeout)  # noqa: SLF001 - as iter_content would
            response._content_consumed = True  # noqa: SLF001
        except ReadTimeoutError:
            raise Refusal("timeout", "no answer in time") from None
        except HTTPError:
            raise Refusal("broken", "the connection broke off") from None
        finally:
            response.close()


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield an answer's body as it arrives, decompressed."""
    while piece := response.raw.read1(2**16, decode_content=True):
        yield piece


def _reply(response: Any) -> Reply:
    first = response.candidates[0] if response.candidates else None
    usage = response.usage_metadata
    blocked = response.prompt_feedback.block_reason if "prompt_feedback" in response._result else 0  # noqa: SLF001 - presence is not told otherwise
    return Reply(
        text="".join(part.text for part in first.content.parts) if first else "",
        finish=getattr(first.finish_reason, "name", str(first.finish_reason)) if first else "",
        blocked=getattr(blocked, "name", str(blocked)) if blocked else "",
        model=getattr(response._result, "model_version", ""),  # noqa: SLF001 - it has no public name
        input_tokens=tokens(usage.prompt_token_count),
        output_tokens=tokens(usage.total_token_count - usage.prompt_token_count),  # this SDK shows no thoughts
    )


def _schema(schema: dict[str, Any]) -> protos.Schema:
    """Return `schema` as the SDK's own: its reading of a dictionary loses `required`."""
    words: dict[str, Any] = {}
    for word, value in schema.items():
        name = _WORDS.get(word, word)
        if word == "properties":
            words[name] = {field: _schema(inner) for field, inner in value.items()}
        elif word == "items":
            words[name] = _schema(value)
        else:
            words[name] = value
    return protos.Schema(**words)
