"""A local HTTP server that speaks Gemini's REST wire format as strictly as Google does, with scripted answers.

In tests: `with GeminiServer() as server: server.plan(overloaded(), answer({...}))`, then inspect `server.requests`.
By hand: `python tests/gemini_server.py --port 8899`, then
`GEMINI_ENDPOINT=http://127.0.0.1:8899 GEMINI_API_KEY=test-key`.
Without a plan each request is answered with an example document that fits its response schema.
"""
# ruff: noqa: C901, PLR0911, PLR0912 - a list of validation rules is clearest in one function

import argparse
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "test-key"
MODELS = ("gemini-flash-lite-latest", "gemini-flash-latest", "gemini-2.5-flash")
PATH = re.compile(r"^/v1(?:beta)?/models(?:/(?P<model>[^:/?]+))?(?::(?P<method>\w+))?$")
TYPES = ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
REQUEST_FIELDS = (
    "contents model systemInstruction tools toolConfig safetySettings generationConfig cachedContent labels".split()
)
CONFIG_FIELDS = (
    "candidateCount stopSequences maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty "
    "responseLogprobs logprobs responseMimeType responseSchema responseJsonSchema thinkingConfig".split()
)
SCHEMA_FIELDS = (
    "type format title description nullable enum items minItems maxItems properties required minProperties "
    "maxProperties minLength maxLength pattern example anyOf propertyOrdering default minimum maximum".split()
)


CONTENT_FIELDS = ("role", "parts")
PART_FIELDS = (
    "text inlineData fileData functionCall functionResponse executableCode codeExecutionResult thought "
    "thoughtSignature videoMetadata".split()
)
MIME_TYPES = ("text/plain", "application/json", "text/x.enum")


@dataclass(frozen=True)
class Answer:
    """The response to one request: `status` and `body` after `delay` seconds, or a closed connection."""

    status: int = 200
    body: Any = None  # JSON; None: a document that fits the request's schema
    delay: float = 0.0
    hang_up: bool = False
    dribble: float = 0.0  # seconds between two bytes, header included
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request as received."""

    at: float  # time.monotonic(), seconds
    method: str
    path: str
    model: str
    call: str  # generateContent, countTokens, …
    headers: dict[str, str]  # lower case
    body: dict[str, Any]  # camelCase
    status: int  # of the response

    @property
    def text(self) -> str:
        """All texts of the request, the system instruction first."""
        turns = [self.body.get("systemInstruction") or {}, *self.body.get("contents", [])]
        return "\n".join(part.get("text", "") for turn in turns for part in turn.get("parts", []))


# Answers, as Google gives them


def answer(
    document: Any, *, finish: str = "STOP", tokens: tuple[int, int, int] = (11, 7, 7), delay: float = 0
) -> Answer:
    """Answer with `document`, a string or JSON; `tokens` are those of prompt, candidate and thoughts."""
    text = document if isinstance(document, str) else json.dumps(document)
    candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish, "index": 0}
    return Answer(200, _reply([candidate], tokens), delay)


def empty(finish: str = "STOP") -> Answer:
    """Answer with a candidate without content."""
    return Answer(200, _reply([{"finishReason": finish, "index": 0}], (11, 0, 0)))


def no_candidates() -> Answer:
    """Answer without a candidate and without a reason."""
    return Answer(200, _reply([], (11, 0, 0)))


def blocked_prompt(reason: str = "SAFETY") -> Answer:
    """Refuse the prompt itself."""
    return Answer(200, _reply([], (11, 0, 0)) | {"promptFeedback": {"blockReason": reason}})


def failure(status: int, name: str, message: str, *details: dict[str, Any]) -> Answer:
    """Answer with an error in Google's format."""
    return Answer(status, {"error": {"code": status, "message": message, "status": name, "details": list(details)}})


def retry_info(delay: float) -> dict[str, Any]:
    """Return the error detail with the delay before a retry (seconds)."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{delay:g}s"}


def rate_limited(delay: float | None = 2.5) -> Answer:
    """Answer 429 for the quota of a minute, with RetryInfo if `delay` is given (seconds)."""
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        "quotaValue": "10",
    }
    details: list[dict[str, Any]] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
    ]
    if delay is not None:
        details.append(retry_info(delay))
    return failure(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.", *details)


def day_quota() -> Answer:
    """Answer 429 for the quota of a day, with Google's misleading RetryInfo."""
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "50"}
    return failure(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota. Please retry in 2.5s.",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"},
    )


def overloaded() -> Answer:
    """Answer 503."""
    return failure(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")


def invalid_key() -> Answer:
    """Answer 400, as for an unknown key."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
    }
    return failure(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info)


def unknown_model(model: str) -> Answer:
    """Answer 404."""
    return failure(404, "NOT_FOUND", f"models/{model} is not found for API version v1beta.")


def _reply(candidates: list[Any], tokens: tuple[int, int, int]) -> dict[str, Any]:
    prompt, candidate, thoughts = tokens
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": candidate, "totalTokenCount": sum(tokens)}
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return {"candidates": candidates, "usageMetadata": usage, "modelVersion": "gemini-2.5-flash-lite"}


class GeminiServer:
    """The server, on a loopback port; `decide` answers requests that no plan covers."""

    def __init__(self, port: int = 0, decide: Callable[[dict[str, Any]], Answer | None] | None = None) -> None:
        self.requests: list[Request] = []
        self.decide = decide
        self.models = list(MODELS)
        self._planned: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._http = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"owner": self}))
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._http.hang_up()

    def plan(self, *answers: Answer) -> None:
        """Set the answers to the next requests, in this order; countTokens has none planned."""
        self._planned.extend(answers)

    def generated(self) -> list[Request]:
        """Return the generateContent requests so far, streamed ones included."""
        return [request for request in self.requests if "enerateContent" in request.call]

    def wait_for(self, count: int, timeout: float = 30) -> list[Request]:
        """Wait until `count` requests have been answered, and return them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout):
                raise TimeoutError(f"{len(self.requests)} of {count} requests in {timeout} s")
            return self.requests[:count]

    def _note(self, request: Request) -> None:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def _next(self, call: str, body: dict[str, Any]) -> Answer:
        with self._changed:
            if self._planned and call != "countTokens":
                return self._planned.popleft()
        chosen = self.decide(body) if self.decide else None
        return chosen or Answer()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close the connections that clients keep open, as when a process ends."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Ignore clients that closed their connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: GeminiServer

    def log_message(self, *_: object) -> None:
        """Write no access log."""

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._send(failure(400, "INVALID_ARGUMENT", "Invalid JSON payload received."), "", {}, "", "")
            return
        self._answer(_camel(body))

    def _answer(self, body: dict[str, Any]) -> None:
        arrived = time.monotonic()
        path = self.path.partition("?")[0]
        match = PATH.match(path)
        model, call = (match["model"] or "", match["method"] or "models") if match else ("", "")
        chosen = self._refusal(match is not None, model, call, body)
        if chosen is None and call == "models":
            chosen = self.owner._planned.popleft() if self.owner._planned else self._list(model)
        elif chosen is None:
            chosen = self.owner._next(call, body)
        if chosen.body is None and chosen.status == 200 and not chosen.hang_up:
            chosen = self._made_up(call, body, chosen)
        self._send(chosen, call, body, path, model, arrived)

    def _refusal(self, known: bool, model: str, call: str, body: dict[str, Any]) -> Answer | None:
        query = self.path.partition("?")[2]
        key = self.headers.get("x-goog-api-key") or dict(re.findall(r"(\w+)=([^&]*)", query)).get("key")
        if not known or call not in ("generateContent", "streamGenerateContent", "countTokens", "models"):
            return Answer(404, {"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}})
        if not key:
            return failure(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
        if key != KEY:
            return invalid_key()
        if (call == "models") != (self.command == "GET"):
            return failure(405, "UNIMPLEMENTED", "Method not allowed.")
        if model and model not in self.owner.models:
            return unknown_model(model)
        if call != "models" and "json" not in self.headers.get("content-type", ""):
            return failure(400, "INVALID_ARGUMENT", "Request payload is not JSON.")
        fault = "" if call == "models" else fault_of(body, call)
        return failure(400, "INVALID_ARGUMENT", fault) if fault else None

    def _list(self, model: str) -> Answer:
        def describe(name: str) -> dict[str, Any]:
            methods = ["generateContent", "countTokens"]
            return {
                "name": f"models/{name}",
                "version": "001",
                "displayName": name,
                "supportedGenerationMethods": methods,
            }

        if model:
            return Answer(200, describe(model))
        other = {"name": "models/embedding-001", "version": "001", "supportedGenerationMethods": ["embedContent"]}
        return Answer(200, {"models": [*map(describe, self.owner.models), other]})

    def _made_up(self, call: str, body: dict[str, Any], chosen: Answer) -> Answer:
        said = json.dumps(body.get("contents") or body.get("generateContentRequest", {}).get("contents", []))
        count = max(1, len(said) // 4)
        if call == "countTokens":
            return Answer(200, {"totalTokens": count}, chosen.delay)
        schema = body.get("generationConfig", {}).get("responseSchema")
        document = example(schema) if schema else "Understood."
        return answer(document, tokens=(count, 40, 0), delay=chosen.delay)

    def _send(
        self, chosen: Answer, call: str, body: dict[str, Any], path: str, model: str, arrived: float | None = None
    ) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        at = time.monotonic() if arrived is None else arrived
        self.owner._note(Request(at, self.command, path, model, call, headers, body, chosen.status))
        if chosen.delay:
            self.owner._closing.wait(chosen.delay)
        if chosen.hang_up:
            self.close_connection = True
            return
        payload = chosen.body if isinstance(chosen.body, str) else json.dumps(chosen.body)
        kind = "application/json"
        if call == "streamGenerateContent" and chosen.status == 200:
            events = "alt=sse" in self.path
            kind = "text/event-stream" if events else kind
            payload = f"data: {payload}\r\n\r\n" if events else f"[{payload}]"
        data = payload.encode()
        if chosen.dribble:
            for byte in f"HTTP/1.1 {chosen.status} OK\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data:
                self.wfile.write(bytes([byte]))
                if self.owner._closing.wait(chosen.dribble):
                    return
            return
        self.send_response(chosen.status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for name, value in chosen.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def fault_of(body: dict[str, Any], call: str) -> str:
    """Return why Google would refuse a request; empty: it is valid."""
    if call == "countTokens" and "generateContentRequest" in body:
        body = body["generateContentRequest"]
    for name in body:
        if name not in REQUEST_FIELDS:
            return f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
    contents = body.get("contents")
    if not contents:
        return "* GenerateContentRequest.contents: contents is not specified"
    for index, content in enumerate(contents):
        fault = fault_of_content(content, f"contents[{index}]")
        if fault:
            return fault
        if content.get("role", "user") not in ("user", "model"):
            return "Please use a valid role: user, model."
    if "systemInstruction" in body:
        fault = fault_of_content(body["systemInstruction"], "system_instruction")
        if fault:
            return fault
    if contents[-1].get("role", "user") != "user":
        return "Please ensure that multiturn requests end with a user role."
    config = body.get("generationConfig", {})
    for name in config:
        if name not in CONFIG_FIELDS:
            return f"Unknown name \"{name}\" at 'generation_config': Cannot find field."
    if not 0 <= config.get("temperature", 1) <= 2:
        return "* GenerateContentRequest.generation_config.temperature: temperature must be in the range [0.0, 2.0]."
    if not 1 <= int(config.get("maxOutputTokens", 1)) <= 65536:
        return "Unable to submit request because it has a maxOutputTokens value out of the supported range."
    if config.get("responseMimeType", "text/plain") not in MIME_TYPES:
        return f"* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are {MIME_TYPES}."
    schema = config.get("responseSchema")
    if schema is not None and "responseJsonSchema" in config:
        return "Unable to submit request because only one of responseSchema and responseJsonSchema may be set."
    if schema is not None and config.get("responseMimeType") != "application/json":
        return "Unable to submit request because responseSchema needs responseMimeType application/json."
    return fault_of_schema(schema, "response_schema") if schema is not None else ""


def fault_of_content(content: dict[str, Any], at: str) -> str:
    """Return why Google would refuse one turn of the conversation; empty: it is valid."""
    parts = content.get("parts")
    unknown = [name for name in content if name not in CONTENT_FIELDS]
    unknown += [name for part in parts or () for name in part if name not in PART_FIELDS]
    if unknown:
        return f"Invalid JSON payload received. Unknown name \"{unknown[0]}\" at '{at}': Cannot find field."
    if not parts or not all(part.get("text") for part in parts):
        return f"* GenerateContentRequest.{at}.parts: contents.parts must not be empty."
    return ""


def fault_of_schema(schema: dict[str, Any], at: str) -> str:
    """Return why Google would refuse a response schema; empty: it is valid."""
    for name in schema:
        if name not in SCHEMA_FIELDS:
            return f"Unknown name \"{name}\" at 'generation_config.{at}': Cannot find field."
    kind = type_of(schema)
    if kind is None:
        return f"Invalid value at 'generation_config.{at}.type'"
    if not isinstance(schema.get("nullable", False), bool):
        return f"Invalid value at 'generation_config.{at}.nullable' (TYPE_BOOL)"
    if not all(schema.get("enum", ["word"])):
        return f"* GenerateContentRequest.generation_config.{at}.enum[0]: cannot be empty"
    if kind == "OBJECT":
        properties = schema.get("properties") or {}
        if not properties:
            return f"* GenerateContentRequest.generation_config.{at}.properties: should be non-empty for OBJECT type"
        missing = [name for name in schema.get("required", []) if name not in properties]
        if missing:
            return f"* GenerateContentRequest.generation_config.{at}.required[0]: property is not defined"
        for name, inner in properties.items():
            fault = fault_of_schema(inner, f"{at}.properties[{name}]")
            if fault:
                return fault
    if kind == "ARRAY":
        if "items" not in schema:
            return f"* GenerateContentRequest.generation_config.{at}.items: missing field."
        return fault_of_schema(schema["items"], f"{at}.items")
    if schema.get("enum") and kind != "STRING":
        return f"* GenerateContentRequest.generation_config.{at}.enum: only allowed for STRING type"
    return ""


def type_of(schema: dict[str, Any]) -> str | None:
    """Return the name of a type given by name or number; None: unknown."""
    kind = schema.get("type")
    if isinstance(kind, int) and 0 < kind < len(TYPES):
        return TYPES[kind]
    return kind.upper() if isinstance(kind, str) and kind.upper() in TYPES else None


def example(schema: dict[str, Any]) -> Any:
    """Return a document that fits a response schema."""
    kind = type_of(schema)
    if kind == "OBJECT":
        return {name: example(inner) for name, inner in schema["properties"].items()}
    if kind == "ARRAY":
        return [example(schema["items"])] * max(1, int(schema.get("minItems", 1)))
    if kind == "STRING":
        return schema["enum"][0] if schema.get("enum") else "Example"
    return {"NUMBER": 1.5, "INTEGER": 1, "BOOLEAN": True}.get(kind)


def _camel(value: Any, *, names: bool = True) -> Any:
    """Return a request with camelCase names; protobuf accepts snake_case as well."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        new = re.sub(r"_(\w)", lambda match: match[1].upper(), name) if names else name
        found[new] = _camel(inner, names=name != "properties")  # names of properties stay as they are
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    with GeminiServer(parser.parse_args().port) as running:
        print(f"Gemini at {running.url}, key {KEY}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
