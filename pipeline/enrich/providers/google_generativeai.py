"""Gemini through google-generativeai, Google's first SDK, which it stopped supporting on 2025-11-30.

It is used over REST: gRPC would ignore a plain-HTTP endpoint. Its client is one for the whole process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from config.settings import Settings
from pipeline.enrich.providers import gemini
from pipeline.enrich.providers.base import ModelReply, ModelRequest, Provider
from pipeline.enrich.providers.transport import CONNECTIONS, is_unreachable

with warnings.catch_warnings():
    # The README states both; a worker's log need not repeat them at every start.
    warnings.filterwarnings("ignore", message=r"\s*All support for the `google.generativeai`", category=FutureWarning)
    warnings.filterwarnings("ignore", message=r"You are using a Python version", category=FutureWarning)
    import google.generativeai as _sdk
    from google.generativeai import client as sdk_client
    from google.generativeai import protos
    from google.protobuf import json_format

sdk: Any = _sdk  # its exports are not typed

# Fields of `protos.Schema` that are not named like the schema's word.
_FIELDS = {"type": "type_", "format": "format_", "minItems": "min_items", "maxItems": "max_items"}


def connect(settings: Settings) -> Provider:
    """Return a provider with the operator's settings."""
    return GoogleGenerativeAi(settings)


class GoogleGenerativeAi(gemini.GeminiProvider):
    """Requests to Gemini by google-generativeai."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        options = {"api_endpoint": self._endpoint} if self._endpoint else None
        sdk.configure(api_key=self._key, transport="rest", client_options=options)
        self._request_options: dict[str, Any] = {"timeout": self._timeout, "retry": None}  # the queue retries
        services: tuple[Any, ...] = (sdk_client.get_default_generative_client(), sdk_client.get_default_model_client())
        for service in services:
            session = service.transport._session  # noqa: SLF001 - neither its ten connections nor its
            session.hooks["response"].append(self._on_response)
            session._max_refresh_attempts = 0  # noqa: SLF001 - repetition of a refused request are settings
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS)
            session.mount("https://", adapter)
            session.mount("http://", adapter)

    def generate(self, request: ModelRequest) -> ModelReply:
        """Return Gemini's answer."""
        model = sdk.GenerativeModel(
            request.model,
            system_instruction=request.system,
            generation_config={
                "response_mime_type": "application/json",
                "response_schema": _protobuf(self.translate_schema(request.schema)),
                "max_output_tokens": request.max_output_tokens,
                "temperature": gemini.TEMPERATURE,
            },
        )
        turns = [{"role": turn.role, "parts": [turn.text]} for turn in request.turns]
        return _reply(self._call(lambda: model.generate_content(turns, request_options=self._request_options)))

    def count_tokens(self, model: str, text: str) -> int:
        """Return the number of tokens in `text`, as Gemini counts them."""
        counted = self._call(
            lambda: sdk.GenerativeModel(model).count_tokens(text, request_options=self._request_options)
        )
        return gemini.tokens(counted.total_tokens)

    def list_models(self) -> list[str]:
        """Return the models that the key may use to generate text."""
        listed = self._call(lambda: list(sdk.list_models(request_options=self._request_options)))
        return [
            self.model_id(model.name) for model in listed if "generateContent" in model.supported_generation_methods
        ]

    def _call(self, request: Callable[[], Any]) -> Any:
        try:
            return self._within_timeout(request)
        except requests.exceptions.Timeout:
            raise gemini.timed_out() from None
        except requests.exceptions.RequestException as error:
            raise gemini.unreachable() if is_unreachable(error) else gemini.connection_lost() from None
        except (json_format.ParseError, ValueError, RecursionError):
            raise gemini.invalid_answer() from None

    def _on_response(self, response: requests.Response, **_: Any) -> None:
        try:
            response._content = self._read(response.status_code, _pieces(response))  # noqa: SLF001 - as iter_content would
            response._content_consumed = True  # noqa: SLF001
        except ReadTimeoutError:
            raise gemini.timed_out() from None
        except HTTPError:
            raise gemini.connection_lost() from None
        finally:
            response.close()


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield an answer's body as it arrives, decompressed."""
    while piece := response.raw.read1(2**16, decode_content=True):
        yield piece


def _reply(response: Any) -> ModelReply:
    first = response.candidates[0] if response.candidates else None
    usage = response.usage_metadata
    blocked = response.prompt_feedback.block_reason if "prompt_feedback" in response._result else 0  # noqa: SLF001 - only the raw result shows presence
    return gemini.reply(
        "".join(part.text for part in first.content.parts) if first else "",
        finish=getattr(first.finish_reason, "name", str(first.finish_reason)) if first else "",
        blocked=getattr(blocked, "name", str(blocked)) if blocked else "",
        model=getattr(response._result, "model_version", ""),  # noqa: SLF001 - it has no public name
        input_tokens=usage.prompt_token_count,
        output_tokens=usage.total_token_count - usage.prompt_token_count,  # this SDK shows no thoughts
    )


def _protobuf(schema: dict[str, Any]) -> protos.Schema:
    """Return a schema as the SDK's own type: reading a dictionary, the SDK loses `required`."""
    fields: dict[str, Any] = {}
    for word, value in schema.items():
        name = _FIELDS.get(word, word)
        if word == "properties":
            fields[name] = {field: _protobuf(inner) for field, inner in value.items()}
        elif word == "items":
            fields[name] = _protobuf(value)
        else:
            fields[name] = value
    return protos.Schema(**fields)
