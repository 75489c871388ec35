"""The options of a message: what is taken, and what is refused with which words."""

import json
import os
from dataclasses import asdict

import jsonschema
import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voicemill.admission import MAX_SOURCE, admit
from voicemill.errors import ErrorCode, JobError
from voicemill.options import (
    LANGUAGES,
    TABLE,
    Choice,
    Document,
    Flag,
    Integer,
    Options,
    Text,
    WebAddress,
    is_text,
    json_schema,
    parse,
    rules,
)

NESTED: list = []
for _ in range(100_000):
    NESTED = [NESTED]

# A drill tries thousands of cases: FUZZ_CASES=10000 python -m pytest tests/unit/test_options.py
fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", "100")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
# Halves of characters included.
words = st.text(st.characters(exclude_categories=()), max_size=30)
numbers = st.integers() | st.floats()
documents = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=5),
    max_leaves=20,
)
names = st.sampled_from([*asdict(Options()), "schema", "langauge"]) | words
likely = st.sampled_from(["ko", "translate", "https://x/", "https://[", "http://x:99999/", 0, 1, 255, "a" * 5000])


def test_nothing_said_means_the_defaults():
    assert parse({}) == Options(language=None, task="transcribe", enrich=True)


def test_all_that_the_contract_names_is_taken():
    keywords = {
        "language": "ko",
        "task": "translate",
        "prompt": "Voicemill, Dramatiq",
        "hotwords": "Redis",
        "word_timestamps": True,
        "enrich": False,
        "metadata": {"chat": [1, None, "x"]},
        "callback_url": "https://example.com/hook",
        "stream": 1,
    }
    options = parse(keywords)

    assert {name: getattr(options, name) for name in keywords} == keywords


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"langauge": "ko"}, "unknown option 'langauge'"),
        ({"language": "korean"}, "language is 'korean'"),
        ({"language": ["ko"]}, "language is ['ko']"),
        ({"task": "summarise"}, "task is 'summarise'"),
        ({"task": None}, "task is None"),
        ({"prompt": 5}, "prompt is 5"),
        ({"prompt": "x" * 5000}, "at most 4096 characters"),
        ({"word_timestamps": "yes"}, "word_timestamps is 'yes'"),
        ({"enrich": 1}, "enrich is 1"),
        ({"dedupe": "yes"}, "dedupe is 'yes'"),
        ({"metadata": {1, 2}}, "metadata is {1, 2}"),
        ({"metadata": float("nan")}, "metadata is nan"),
        ({"metadata": "x" * 70_000}, "metadata is 'xxx"),
        ({"callback_url": "ftp://example.com"}, "callback_url is 'ftp://example.com'"),
        ({"callback_url": "https://[bad"}, "callback_url is"),
        ({"stream": -1}, "stream is -1"),
        ({"stream": True}, "stream is True"),
        # What JSON can hold and no text can be
        ({"prompt": "a\ud800"}, "prompt is 'a\\ud800'"),
        ({"hotwords": "\udfff"}, "hotwords is"),
        ({"callback_url": "https://x/\ud800"}, "callback_url is"),
        ({"metadata": {"\ud800": 1}}, "metadata is"),
        # What cannot even be shown
        ({"stream": 10**5000}, "stream is <int>"),
        ({"metadata": 10**5000}, "metadata is <int>"),
        ({"metadata": NESTED}, "metadata is <list>"),
        ({"metadata": [json.loads('{"a":' * 100 + "1" + "}" * 100)]}, "metadata is [{'a':"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(keywords, said):
    with pytest.raises(JobError) as raised:
        parse(keywords)

    assert raised.value.code == "invalid_options"
    assert said in raised.value.message
    assert len(raised.value.message) < 300


def test_an_address_too_long_for_a_message_is_refused_before_it_is_sent():
    with pytest.raises(JobError, match=r"at most 1 MiB.*upload the audio") as raised:
        admit(("data:audio/ogg;base64," + "A" * MAX_SOURCE,), {})
    assert raised.value.code == "source_too_large"


def test_the_languages_are_those_of_whisper():
    assert set(_LANGUAGE_CODES) == set(LANGUAGES)


@fuzzed
@given(
    st.lists(words | documents, max_size=2) | st.tuples(words),
    st.dictionaries(names, documents | likely, max_size=4),
)
def test_whatever_is_sent_is_taken_and_can_be_stored_or_is_refused_with_a_code(args, keywords):
    try:
        source, options = admit(tuple(args), keywords)
    except JobError as error:
        stored, codes = str(error), {error.code}
    else:
        stored, codes = json.dumps([source, asdict(options)], ensure_ascii=False, allow_nan=False), set()
    assert stored.encode()
    assert codes <= set(ErrorCode)


SAMPLES = {
    Text: ["", "x" * 4096, "x" * 4097, 5, "a\ud800"],
    Choice: ["ko", "translate", "transcribe", "korean", 5, ["ko"]],
    Flag: [True, False, 1, "yes"],
    Integer: [0, 255, -1, 256, True, 1.5, "1"],
    Document: [{"a": [1, None]}, "x", 5],
    WebAddress: ["https://example.com/hook"],
}


@pytest.mark.parametrize("name", TABLE)
def test_the_published_schema_accepts_what_validation_accepts(name):
    published = jsonschema.Draft202012Validator(json_schema())
    kind = type(rules(name).kind)
    for value in [*SAMPLES[kind], None]:
        try:
            parse({name: value})
        except JobError:
            accepted = False
        else:
            accepted = True
        if kind is Text and not is_text(value) and isinstance(value, str):
            continue  # a schema cannot say that text must be encodable
        assert published.is_valid({name: value}) == accepted, value


@pytest.mark.parametrize("name", TABLE)
def test_every_option_has_a_phrase_of_help_and_a_default_that_is_valid(name):
    assert rules(name).help
    assert not rules(name).help.endswith(".")
    assert parse({name: TABLE[name].default}) == Options()


def test_the_published_schema_refuses_unknown_options():
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid({"langauge": "ko"})
