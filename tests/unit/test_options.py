"""The options of a message: what is taken, and what is refused with which words."""

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES

from pipeline.errors import JobError
from pipeline.options import LANGUAGES, Options, parse


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
        ({"prompt": "x" * 5000}, "prompt is 'xxx"),
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
    ],
)
def test_a_wrong_option_is_named_with_what_it_takes(keywords, said):
    with pytest.raises(JobError) as raised:
        parse(keywords)

    assert raised.value.code == "invalid_options"
    assert said in raised.value.message
    assert len(raised.value.message) < 300


def test_the_languages_are_those_of_whisper():
    assert set(_LANGUAGE_CODES) == LANGUAGES
