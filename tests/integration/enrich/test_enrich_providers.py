"""The contract that every provider keeps: the fake in memory, the others over HTTP against a local server."""

import copy
import dataclasses
import json
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import gemini_server as google
import jsonschema
import pytest

from config.settings import SettingsError
from pipeline.enrich import providers, schema
from pipeline.enrich.providers import fake
from pipeline.enrich.providers.base import (
    ANSWERED,
    ErrorKind,
    ModelReply,
    ModelRequest,
    NotConfigured,
    Provider,
    ProviderCapabilities,
    ProviderError,
    Turn,
)

TAG = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
EVERY_TYPE = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "Some text"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "maybe": {"type": ["string", "null"]},
        "choice": {"type": "string", "enum": ["one", "two"]},
        "maybe_choice": {"type": ["string", "null"], "enum": ["one", "two", None]},
        "count": {"type": "integer"},
        "share": {"type": ["number", "null"]},
        "flag": {"type": "boolean"},
        "tags": {"type": "array", "items": TAG, "minItems": 2, "maxItems": 5},
        "maybe_tag": {**TAG, "type": ["object", "null"]},
    },
    "required": ["text", "choice", "tags"],
}
REPLY = {"text": "Hello"}

GEMINI_FAILURES = {
    ErrorKind.INVALID_KEY: google.invalid_key(),
    ErrorKind.FORBIDDEN: google.failure(403, "PERMISSION_DENIED", "Denied."),
    ErrorKind.UNKNOWN_MODEL: google.unknown_model("gemini-0"),
    ErrorKind.INVALID_REQUEST: google.failure(400, "INVALID_ARGUMENT", "Too large."),
    ErrorKind.RATE_LIMITED: google.rate_limited(7),
    ErrorKind.QUOTA_EXHAUSTED: google.day_quota(),
    ErrorKind.UNAVAILABLE: google.overloaded(),
    ErrorKind.TIMEOUT: google.failure(504, "DEADLINE_EXCEEDED", "Deadline expired."),
    ErrorKind.BLOCKED: google.blocked_prompt(),
    ErrorKind.RECITATION: google.empty("RECITATION"),
    ErrorKind.TRUNCATED: google.answer('{"text": "Ha', finish="MAX_TOKENS"),
    ErrorKind.EMPTY: google.answer(" "),
}


@dataclasses.dataclass
class Subject:
    """A provider and the means to decide what its API does next."""

    provider: Provider
    answer: Any  # answer(document)
    fail: Any  # fail(kind)

    def request(self, *turns, answer_schema=EVERY_TYPE):
        return ModelRequest(
            self.provider.options.model, "Be brief.", turns or (Turn("user", "Hello"),), answer_schema, 512
        )


def fake_subject(_make_settings, _gemini):
    planned = deque()

    def respond(request):
        return planned.popleft()(request) if planned else fake.answer(request)

    def fail(kind):
        error = ProviderError(kind, f"planned {kind}", retry_after=7 if kind is ErrorKind.RATE_LIMITED else None)

        def failing(request):
            if kind in ANSWERED:
                return ModelReply("", request.model, 11, 7, error)
            raise error

        planned.append(failing)

    subject = Subject(fake.FakeProvider(respond), None, fail)
    subject.answer = lambda document: planned.append(lambda request: fake.answer(request, document))
    return subject


def gemini_subject(sdk):
    def make(make_settings, gemini):
        return Subject(
            providers.connect(make_settings(gemini_sdk=sdk)),
            lambda document: gemini.plan(google.answer(document)),
            lambda kind: gemini.plan(GEMINI_FAILURES[kind]),
        )

    return make


SUBJECTS = {
    "fake": fake_subject,
    "google-generativeai": gemini_subject("google-generativeai"),
    "google-genai": gemini_subject("google-genai"),
}


@pytest.fixture(params=SUBJECTS)
def subject(request, local_settings, gemini):
    return SUBJECTS[request.param](local_settings, gemini)


def test_every_provider_is_held_to_this_contract():
    assert set(SUBJECTS) == set(providers.REGISTRY)


def test_a_document_of_every_type_fits_its_schema(subject):
    reply = subject.provider.generate(subject.request())
    jsonschema.validate(json.loads(reply.text), EVERY_TYPE)
    assert reply.error is None
    assert reply.model
    assert reply.input_tokens > 0
    assert reply.output_tokens > 0


def test_the_default_schema_of_a_summary_is_one_that_the_provider_takes(subject):
    contract = schema.load(None)
    reply = subject.provider.generate(subject.request(answer_schema=contract.schema))
    assert set(contract.parse(reply.text)) == set(contract.schema["properties"])


def test_an_answer_is_passed_on_as_the_model_wrote_it(subject):
    subject.answer(REPLY)
    assert json.loads(subject.provider.generate(subject.request()).text) == REPLY


def test_a_conversation_may_hold_the_models_own_answer(subject):
    turns = (Turn("user", "Hello"), Turn("model", "{"), Turn("user", "Once more"))
    assert subject.provider.generate(subject.request(*turns)).error is None


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_is_classified(subject, kind):
    subject.fail(kind)
    if kind in ANSWERED:
        reply = subject.provider.generate(subject.request())
        error = reply.error
        assert reply.input_tokens == 11, "such an answer is paid for"
    else:
        with pytest.raises(ProviderError) as caught:
            subject.provider.generate(subject.request())
        error = caught.value
    assert error.kind is kind
    assert not error.unreachable
    assert error.message
    assert google.KEY not in error.message


def test_the_delay_that_an_api_asks_for_is_passed_on(subject):
    subject.fail(ErrorKind.RATE_LIMITED)
    with pytest.raises(ProviderError) as caught:
        subject.provider.generate(subject.request())
    assert caught.value.retry_after == 7


def test_errors_are_one_short_printable_line():
    error = ProviderError(ErrorKind.UNAVAILABLE, "Too\x1b[2J\n  long\u202e: " + "x" * 1000)
    assert error.message.startswith("Too[2J long: xx")
    assert len(error.message) == 200


def test_requests_do_not_repeat_after_a_failure(subject):
    subject.fail(ErrorKind.UNAVAILABLE)
    with pytest.raises(ProviderError):
        subject.provider.generate(subject.request())
    assert subject.provider.generate(subject.request()).error is None, "the failure was planned for one request"


def test_longer_texts_count_more_tokens(subject):
    count = subject.provider.count_tokens
    model = subject.provider.options.model
    assert subject.provider.capabilities.counts_tokens
    assert 0 < count(model, "word") < count(model, "word " * 1000)


def test_the_configured_model_is_listed_and_priced_and_an_unknown_one_is_not(subject):
    provider = subject.provider
    assert provider.options.model in provider.list_models()
    assert provider.price(provider.options.model).of(1000, 1000) >= 0
    assert provider.price("unheard-of") is None


def test_the_name_of_a_model_has_one_form(subject):
    model = subject.provider.options.model
    assert subject.provider.model_id(model) == model


def test_translating_a_schema_leaves_the_original_as_it_is(subject):
    original = copy.deepcopy(EVERY_TYPE)
    json.dumps(subject.provider.translate_schema(original))
    assert original == EVERY_TYPE


def test_threads_get_their_own_answers(subject):
    def ask(_number):
        return subject.provider.generate(subject.request()).error

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(24))) == {None}


def test_an_address_where_nothing_listens_is_reported_as_unreachable(sdk, local_settings):
    provider = providers.connect(local_settings(gemini_sdk=sdk, gemini_endpoint="http://127.0.0.1:9"))
    with pytest.raises(ProviderError) as caught:
        provider.generate(Subject(provider, None, None).request())
    assert caught.value.unreachable
    assert caught.value.kind is ErrorKind.UNAVAILABLE


def test_googles_prefix_is_not_part_of_a_models_name(sdk, local_settings):
    provider = providers.connect(local_settings(gemini_sdk=sdk, gemini_model="models/gemini-flash-latest"))
    assert provider.options.model == "gemini-flash-latest"


def test_a_provider_without_its_key_is_not_configured(sdk, local_settings):
    with pytest.raises(NotConfigured, match="GEMINI_API_KEY is unset"):
        providers.connect(local_settings(gemini_sdk=sdk, gemini_api_key=None))


def test_an_unknown_provider_is_refused_with_a_list_of_the_known_ones(local_settings):
    with pytest.raises(SettingsError, match="'nobody': takes google-generativeai, google-genai, fake"):
        providers.connect(local_settings(), "nobody")


def test_the_fake_writes_the_same_summary_every_time_and_without_a_network(enricher):
    subject = enricher(provider=providers.connect(SimpleNamespace(), "fake"))
    first, second = (subject.enrich(job, {"text": "Hello.", "language": "en"}) for job in ("first", "second"))
    assert {**first, "latency": 0} == {**second, "latency": 0}
    assert (first["model"], first["cost_usd"], first["tries"]) == (fake.MODEL, 0.0, 1)
    assert first["title"] == fake.TEXT


@pytest.mark.parametrize("version", ["", "fake-1-preview-without-a-price"])
def test_a_version_without_a_price_costs_what_the_requested_model_costs(enricher, version):
    provider = fake.FakeProvider(lambda request: dataclasses.replace(fake.answer(request), model=version))
    enrichment = enricher(provider=provider).enrich("job", {"text": "Hello."})
    assert enrichment["cost_usd"] == 0.0
    assert enrichment["model"] == (version or fake.MODEL)


@pytest.mark.parametrize("native", [True, False])
def test_an_api_without_schemas_is_given_the_schema_in_words(enricher, native):
    requests = []

    def respond(request):
        requests.append(request)
        return fake.answer(request)

    capabilities = ProviderCapabilities(json_schema=native, counts_tokens=True, context_tokens=2**20)
    enricher(provider=fake.FakeProvider(respond, capabilities=capabilities)).enrich("job", {"text": "Hello."})
    assert (json.dumps(requests[0].schema) in requests[0].system) is not native
