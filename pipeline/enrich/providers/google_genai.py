"""Gemini through google-genai, the SDK that Google maintains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx2
from google import genai
from google.genai import errors, types

from config.settings import Settings
from pipeline.enrich.providers import gemini
from pipeline.enrich.providers.base import ModelReply, ModelRequest, Provider
from pipeline.enrich.providers.transport import CONNECTIONS, is_unreachable

Result = TypeVar("Result")


def connect(settings: Settings) -> Provider:
    """Return a provider with the operator's settings."""
    return GoogleGenAi(settings)


class GoogleGenAi(gemini.GeminiProvider):
    """Requests to Gemini by google-genai."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
        self._client = genai.Client(
            api_key=self._key,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=self._endpoint,
                api_version="v1beta",  # as the other SDK; v1 came later to response schemas and system instructions
                timeout=int(self._timeout * 1000),
                client_args={"limits": limits, "event_hooks": {"response": [self._on_response]}},
            ),
        )

    def generate(self, request: ModelRequest) -> ModelReply:
        """Return Gemini's answer."""
        schema = self.translate_schema(request.schema)
        config = types.GenerateContentConfig(
            system_instruction=request.system,
            response_mime_type="application/json",
            # Given as `response_schema` it would make the SDK parse the answer, and trip over one nested very deep.
            http_options=types.HttpOptions(extra_body={"generationConfig": {"responseSchema": schema}}),
            max_output_tokens=request.max_output_tokens,
            temperature=gemini.TEMPERATURE,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        turns = [types.Content(role=turn.role, parts=[types.Part(text=turn.text)]) for turn in request.turns]
        return _reply(
            self._call(lambda: self._client.models.generate_content(model=request.model, contents=turns, config=config))
        )

    def count_tokens(self, model: str, text: str) -> int:
        """Return the number of tokens in `text`, as Gemini counts them."""
        counted = self._call(lambda: self._client.models.count_tokens(model=model, contents=text))
        return gemini.tokens(counted.total_tokens)

    def list_models(self) -> list[str]:
        """Return the models that the key may use to generate text."""
        listed = self._call(lambda: list(self._client.models.list(config={"query_base": True})))
        return [
            self.model_id(model.name or "") for model in listed if "generateContent" in (model.supported_actions or ())
        ]

    def _call(self, request: Callable[[], Result]) -> Result:
        try:
            return self._within_timeout(request)
        except httpx2.TimeoutException:
            raise gemini.timed_out() from None
        except httpx2.RequestError as error:
            raise gemini.unreachable() if is_unreachable(error) else gemini.connection_lost() from None
        except (errors.UnknownApiResponseError, ValueError, RecursionError, AttributeError, TypeError):
            # The SDK raises the last two for a number in the place of a word.
            raise gemini.invalid_answer() from None

    def _on_response(self, response: httpx2.Response) -> None:
        response._content = self._read(response.status_code, response.iter_bytes())  # noqa: SLF001 - as Response.read does


def _reply(response: types.GenerateContentResponse) -> ModelReply:
    first = response.candidates[0] if response.candidates else None
    parts = (first.content.parts or []) if first and first.content else []
    usage = response.usage_metadata or types.GenerateContentResponseUsageMetadata()
    feedback = response.prompt_feedback
    asked = usage.prompt_token_count or 0
    text = "".join(part.text or "" for part in parts if not part.thought)
    return gemini.reply(
        text.encode(errors="replace").decode(),  # JSON can hold a lone surrogate, which could not be sent back
        finish=(first.finish_reason.name if first.finish_reason else "") if first else "",
        blocked=feedback.block_reason.name if feedback and feedback.block_reason else "",
        model=response.model_version or "",
        input_tokens=asked,
        output_tokens=(usage.total_token_count or asked) - asked,
    )
