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
    MAX_LEVELS,
    MAX_METADATA,
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


def nested(levels):
    """Return lists nested in so many levels."""
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def edges(kind):
    """Return values at the bounds of a kind of option that are valid, and such beyond them that are not."""
    match kind:
        case Text(longest):
            return ["", "x" * longest, "\N{WAVING HAND SIGN}" * longest], ["x" * (longest + 1), 5, ["x"], "\ud800"]
        case Choice(values):
            return list(values), [f"{values[0]}x", values[0].upper(), "", 5, [values[0]]]
        case Flag():
            return [True, False], [0, 1, "true", [True]]
        case Integer(least, most):
            return [least, most], [least - 1, most + 1, least + 0.5, float(most), True, str(most), [most]]
        case Document():
            longest = "x" * (MAX_METADATA - 2)  # and its quotation marks
            return [longest, nested(MAX_LEVELS), {"a": [1, None]}, 0], [f"{longest}x", nested(MAX_LEVELS + 1), "\ud800"]
        case WebAddress():
            spaced = ["https://x y/", " https://x", "https://x/\n", "ht\ntps://x", "https://x\t/"]
            valid = ["https://example.com/hook?a=b", "http://[::1]:8080", "HTTPS://user:word@example.com", "http://x"]
            return valid, ["ftp://x.com", "https://", "http:///x", "//x.com", "x.com", "", 5, ["https://x"], *spaced]
    raise NotImplementedError(kind)


def beyond_a_schema(kind, value):
    """Return whether a value is invalid for a reason that JSON Schema has no words for."""
    whole = isinstance(kind, Integer) and isinstance(value, float) and value.is_integer()
    return isinstance(kind, Document) or whole or (isinstance(value, str) and not is_text(value))


@pytest.mark.parametrize("name", TABLE)
def test_values_at_the_bounds_of_an_option_are_taken(name):
    for value in edges(rules(name).kind)[0]:
        assert getattr(parse({name: value}), name) == value


@pytest.mark.parametrize("name", TABLE)
def test_values_beyond_the_bounds_of_an_option_are_refused_with_what_it_takes(name):
    for value in edges(rules(name).kind)[1]:
        with pytest.raises(JobError) as raised:
            parse({name: value})
        assert raised.value.code is ErrorCode.INVALID_OPTIONS
        assert raised.value.message.startswith(f"{name} is ")
        assert f"it must be {rules(name).kind.takes}" in raised.value.message


@pytest.mark.parametrize("name", TABLE)
def test_none_is_taken_where_it_is_the_default_and_nowhere_else(name):
    if TABLE[name].default is None:
        assert getattr(parse({name: None}), name) is None
    else:
        with pytest.raises(JobError, match=f"{name} is None"):
            parse({name: None})


PUBLISHED = jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize("name", TABLE)
def test_the_published_schema_accepts_what_validation_accepts(name):
    kind = rules(name).kind
    valid, invalid = edges(kind)
    for value in valid:
        assert PUBLISHED.is_valid({name: value}), value
    for value in invalid:
        assert beyond_a_schema(kind, value) or not PUBLISHED.is_valid({name: value}), value
    assert PUBLISHED.is_valid({name: None}) == (TABLE[name].default is None)


@fuzzed
@given(st.dictionaries(st.sampled_from([*TABLE, "langauge"]), documents | likely, max_size=4))
def test_the_published_schema_refuses_nothing_that_validation_accepts(keywords):
    try:
        parse(keywords)
    except JobError:
        return
    assert PUBLISHED.is_valid(keywords)


@pytest.mark.parametrize("name", TABLE)
def test_every_option_has_a_phrase_of_help_and_a_default_that_is_valid(name):
    assert rules(name).help
    assert not rules(name).help.endswith(".")
    assert parse({name: TABLE[name].default}) == Options()


def test_the_published_schema_refuses_unknown_options():
    assert not PUBLISHED.is_valid({"langauge": "ko"})
