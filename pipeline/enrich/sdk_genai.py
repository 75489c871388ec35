"""Gemini through google-genai, the SDK that Google maintains."""

from __future__ import annotations

from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from pipeline.enrich.gemini import CONNECTIONS, Refusal, Reply, Request, in_time, no_connection, read, tokens


class Client:
    """The adapter; see `pipeline.enrich.gemini.Gemini` for what its methods promise."""

    def __init__(self, key: str, endpoint: str | None, timeout: float) -> None:
        self._timeout = timeout
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
        self._client = genai.Client(
            api_key=key,
            vertexai=False,
            http_options=types.HttpOptions(
                base_url=endpoint,
                api_version="v1beta",  # as the other SDK; v1 came later to response schemas and system instructions
                timeout=int(timeout * 1000),
                client_args={"limits": limits, "event_hooks": {"response": [self._read]}},
            ),
        )

    def generate(self, request: Request) -> Reply:
        """Ask for an answer."""
        config = types.GenerateContentConfig(
            system_instruction=request.system,
            response_mime_type="application/json",
            # Given as `response_schema` it would make the SDK parse the answer, and trip over one nested very deep.
            http_options=types.HttpOptions(extra_body={"generationConfig": {"responseSchema": request.schema}}),
            max_output_tokens=request.max_output_tokens,
            temperature=0.2,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        turns = [types.Content(role=turn.role, parts=[types.Part(text=turn.text)]) for turn in request.turns]
        return _reply(
            self._call(lambda: self._client.models.generate_content(model=request.model, contents=turns, config=config))
        )

    def count(self, model: str, text: str) -> int:
        """Return how many tokens `text` is."""
        return tokens(self._call(lambda: self._client.models.count_tokens(model=model, contents=text)).total_tokens)

    def models(self) -> list[str]:
        """Return the names of the models that the key may use to generate."""
        found = self._call(lambda: list(self._client.models.list(config={"query_base": True})))
        return [
            (model.name or "").removeprefix("models/")
            for model in found
            if "generateContent" in (model.supported_actions or ())
        ]

    def _call(self, ask: Any) -> Any:
        try:
            return in_time(self._timeout, ask)
        except httpx2.TimeoutException:
            raise Refusal("timeout", "no answer in time") from None
        except httpx2.RequestError as error:
            if no_connection(error):
                raise Refusal("unreachable", "Gemini's address cannot be reached") from None
            raise Refusal("broken", "the connection broke off") from None
        except (errors.UnknownApiResponseError, ValueError, RecursionError, AttributeError, TypeError):
            # The last two are what the SDK stumbles with over a number in the place of a word.
            raise Refusal("broken", "the answer is not one of Gemini's") from None

    def _read(self, response: httpx2.Response) -> None:
        """Read an answer before the SDK does, which knows no bounds and fails at errors that are not Google's own."""
        response._content = read(response.status_code, response.iter_bytes(), self._timeout)  # noqa: SLF001 - as Response.read does


def _reply(response: types.GenerateContentResponse) -> Reply:
    first = response.candidates[0] if response.candidates else None
    parts = (first.content.parts or []) if first and first.content else []
    usage = response.usage_metadata or types.GenerateContentResponseUsageMetadata()
    feedback = response.prompt_feedback
    asked = usage.prompt_token_count or 0
    text = "".join(part.text or "" for part in parts if not part.thought)
    return Reply(
        text=text.encode(errors="replace").decode(),  # JSON can say half a character, and it could not be sent back
        finish=(first.finish_reason.name if first.finish_reason else "") if first else "",
        blocked=feedback.block_reason.name if feedback and feedback.block_reason else "",
        model=response.model_version or "",
        input_tokens=tokens(asked),
        output_tokens=tokens((usage.total_token_count or asked) - asked),
    )
