"""The local Gemini server is as strict as Google's."""

import json
import urllib.error
import urllib.request

import pytest
from gemini_server import KEY, answer

GOOD = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
JSON = {"responseMimeType": "application/json"}


def post(url, body, key=KEY, content_type="application/json"):
    """Return the status and JSON of an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-goog-api-key": key, "content-type": content_type} if key else {"content-type": content_type}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_good_request_is_answered(gemini, version):
    status, reply = post(f"{gemini.url}/{version}/models/gemini-flash-latest:generateContent", GOOD)
    assert status == 200
    assert reply["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "Invalid JSON"),
        ([], "Invalid JSON"),
        ({}, "contents is not specified"),
        ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        ({"contents": [{"role": "user", "parts": [{"text": ""}]}]}, "must not be empty"),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "valid role"),
        ({"contents": [{"role": "model", "parts": [{"text": "x"}]}]}, "end with a user role"),
        ({"contents": [{"role": "user", "parts": [{"text": "x", "txt": "y"}]}]}, 'Unknown name "txt"'),
        ({"contents": [{"role": "user", "parts": [{"text": "x"}], "name": "y"}]}, 'Unknown name "name"'),
        ({**GOOD, "systemInstruction": {"parts": [{"text": "x"}], "x": 1}}, 'Unknown name "x"'),
        ({**GOOD, "systemInstruction": {"parts": []}}, "must not be empty"),
        ({**GOOD, "generationConfig": {"responseMimeType": "application/xml"}}, "allowed mimetypes"),
        (
            {**GOOD, "generationConfig": JSON | {"responseSchema": {"type": "STRING"}, "responseJsonSchema": {}}},
            "only one of",
        ),
        ({**GOOD, "generationConfig": JSON | {"responseSchema": {"type": "STRING", "nullable": "true"}}}, "nullable"),
        ({**GOOD, "generationConfig": JSON | {"responseSchema": {"type": "STRING", "enum": ["a", ""]}}}, "enum"),
        ({**GOOD, "promt": 1}, 'Unknown name "promt"'),
        ({**GOOD, "generationConfig": {"maxTokens": 1}}, 'Unknown name "maxTokens"'),
        ({**GOOD, "generationConfig": {"temperature": 3}}, "range"),
        ({**GOOD, "generationConfig": {"maxOutputTokens": 0}}, "maxOutputTokens"),
        ({**GOOD, "generationConfig": {"responseSchema": {"type": "STRING"}}}, "responseMimeType"),
        ({**GOOD, "generationConfig": JSON | {"responseSchema": {"type": "TEXT"}}}, "type"),
        ({**GOOD, "generationConfig": JSON | {"responseSchema": {"type": "OBJECT"}}}, "non-empty"),
        ({**GOOD, "generationConfig": JSON | {"responseSchema": {"type": "ARRAY"}}}, "items"),
        ({**GOOD, "generationConfig": JSON | {"responseSchema": {"$ref": "x"}}}, "Unknown name"),
        (
            {
                **GOOD,
                "generationConfig": JSON
                | {"responseSchema": {"type": "OBJECT", "properties": {"a": {"type": 1}}, "required": ["b"]}},
            },
            "not defined",
        ),
    ],
)
def test_requests_that_google_refuses_are_refused(gemini, body, complaint):
    status, reply = post(f"{gemini.url}/v1beta/models/gemini-flash-latest:generateContent", body)
    assert status == 400
    assert complaint in reply["error"]["message"]


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/v1beta/models/gemini-1.5-flash:generateContent", KEY, 404),
        ("/v1beta/models/gemini-flash-latest:guess", KEY, 404),
        ("/elsewhere", KEY, 404),
        ("/v1beta/models/gemini-flash-latest:generateContent", "other", 400),
        ("/v1beta/models/gemini-flash-latest:generateContent", None, 403),
    ],
)
def test_wrong_models_methods_and_keys_are_refused(gemini, path, key, status):
    assert post(gemini.url + path, GOOD, key)[0] == status


def test_the_older_sdk_reads_a_stream(gemini):
    from pipeline.enrich.providers.google_generativeai import sdk  # which suppresses the warnings of its import

    sdk.configure(api_key=KEY, transport="rest", client_options={"api_endpoint": gemini.url})
    gemini.plan(answer("Hello there"))
    replies = list(sdk.GenerativeModel("gemini-flash-latest").generate_content("Hi", stream=True))
    assert "".join(reply.text for reply in replies) == "Hello there"


def test_the_newer_sdk_reads_a_stream(gemini):
    from google import genai

    client = genai.Client(api_key=KEY, vertexai=False, http_options={"base_url": gemini.url})
    gemini.plan(answer("Hello there"))
    replies = list(client.models.generate_content_stream(model="gemini-flash-latest", contents="Hi"))
    assert "".join(reply.text for reply in replies) == "Hello there"
    assert gemini.requests[-1].call == "streamGenerateContent"
