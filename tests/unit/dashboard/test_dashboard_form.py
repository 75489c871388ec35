"""The form's options: made from the table, so that a new option needs no change here, and read back."""

import dataclasses

import pytest

from voicemill.options import TABLE, Choice, Document, Flag, Integer, Rules, Text, parse
from web.dashboard import language, options_form
from web.dashboard.options_form import Field
from web.forms import Form
from web.problems import Problem

ENGLISH = language.TEXTS["en"]


def form(**fields):
    return Form(None, {name: [value] for name, value in fields.items()})


def option(kind, default=None, **rules):
    return Field("speakers", Rules(kind, "how many people speak", "transcribe", in_form=True, **rules), default)


def test_the_form_has_every_option_of_the_table_that_is_marked():
    @dataclasses.dataclass
    class Made:
        seen: bool = dataclasses.field(default=False, metadata={"rules": Rules(Flag(), "a", "decode", in_form=True)})
        unseen: bool = dataclasses.field(default=False, metadata={"rules": Rules(Flag(), "b", "decode")})

    table = {field.name: field for field in dataclasses.fields(Made)}

    assert [field.name for field in options_form.fields(table)] == ["seen"]
    assert [field.name for field in options_form.FIELDS] == [
        name for name, field in TABLE.items() if field.metadata["rules"].in_form
    ]


def test_a_new_option_is_labelled_by_its_help_until_it_has_a_text():
    field = option(Choice(("one", "two")))

    assert field.label(ENGLISH) == "how many people speak"
    assert [field.label_of(value, ENGLISH) for value in ("", "one")] == ["–", "one"]


def test_known_options_and_their_values_have_labels_in_every_language():
    for texts in language.TEXTS.values():
        for field in options_form.FIELDS:
            assert field.label(texts) != field.rules.help
            if field.control == "select" and not field.names_languages:
                assert all(field.label_of(value, texts) != value for value in field.choices)


@pytest.mark.parametrize(
    ("kind", "control", "text", "value"),
    [
        (Choice(("one", "two")), "select", "two", "two"),
        (Flag(), "checkbox", "true", True),
        (Integer(1, 9), "number", "3", 3),
        (Text(100), "text", "Anna", "Anna"),
        (Document(), "textarea", '{"a": 1}', {"a": 1}),
    ],
)
def test_every_kind_of_option_has_a_control_and_is_read_back(kind, control, text, value):
    field = option(kind)

    assert field.control == control
    assert field.read(form(speakers=text)) == {"speakers": value}
    assert field.read(form()) == ({"speakers": False} if control == "checkbox" else {})


@pytest.mark.parametrize(("kind", "text"), [(Integer(1, 9), "three"), (Document(), "{")])
def test_a_value_of_another_type_is_rejected(kind, text):
    with pytest.raises(Problem, match="speakers: must be"):
        option(kind).read(form(speakers=text))


def test_a_form_that_is_sent_as_it_is_shown_has_valid_options():
    shown = {field.name: "true" for field in options_form.FIELDS if field.control == "checkbox" and field.default}

    options = parse(options_form.read(form(**shown, language="", task="transcribe")))

    assert (options.language, options.enrich, options.word_timestamps) == (None, True, True)
