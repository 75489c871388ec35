"""Schemas of summaries: the default and operators' own, their translation for Gemini, and validation."""

import json
import sys
from enum import Enum
from typing import Literal

import pytest
from gemini_server import fault_of_schema
from pydantic import BaseModel, ConfigDict, Field, field_validator

from config.settings import SettingsError
from pipeline.enrich import schema
from pipeline.enrich.providers.fake import example
from pipeline.enrich.providers.gemini import translate_schema
from voicemill.errors import JobError


def test_the_default_schema_is_valid_for_gemini_and_its_example_parses():
    contract = schema.load(None)
    assert fault_of_schema(translate_schema(contract.schema), "response_schema") == ""
    document = contract.parse(json.dumps(example(contract.schema)))
    assert set(document) == set(contract.schema["properties"])
    assert contract.cleaned


def test_an_answer_may_be_fenced():
    contract = schema.load(None)
    assert contract.parse("```json\n" + json.dumps(example(contract.schema)) + "\n```")["urgency"] == "low"


# A kilobyte whose references multiply it by eight to the fifth power.
LAUGHS = {"L0": {"type": "string"}} | {
    f"L{level}": {"type": "object", "properties": {name: {"$ref": f"#/$defs/L{level - 1}"} for name in "abcdefgh"}}
    for level in range(1, 6)
}
TICKET = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["bug", "wish"]},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "due": {"type": ["string", "null"], "format": "date"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}},
    },
    "required": ["kind", "score"],
    "additionalProperties": False,
    "$defs": {"Tag": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}


@pytest.fixture
def ticket(tmp_path):
    file = tmp_path / "ticket.json"
    file.write_text(json.dumps(TICKET), encoding="utf-8-sig")  # with a byte order mark, as editors on Windows write it
    return schema.load(str(file))


def test_an_operators_json_schema_is_translated_and_enforced(ticket):
    assert fault_of_schema(translate_schema(ticket.schema), "response_schema") == ""
    assert ticket.schema["properties"]["due"] == {"type": ["string", "null"], "format": "date"}
    assert translate_schema(ticket.schema)["properties"]["due"] == {
        "type": "STRING",
        "nullable": True,
        "description": "Format: date",
    }
    assert not ticket.cleaned
    assert ticket.parse('{"kind": "bug", "score": 3, "tags": [{"name": "a", "x": 1}], "admin": 1}') == {
        "kind": "bug",
        "score": 3,
        "tags": [{"name": "a"}],
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"kind": "bug"}',
        '{"kind": "odd", "score": 1}',
        '{"kind": "bug", "score": 9}',
        '{"kind": "bug", "score": 1, "due": "odd"}',
    ],
)
def test_answers_invalid_by_an_operators_schema_are_refused_without_quoting_them(ticket, text):
    with pytest.raises(schema.InvalidAnswer) as caught:
        ticket.parse(text)
    assert "odd" not in str(caught.value)


def test_an_operators_model_is_named_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "house_models.py").write_text(
        "from pydantic import BaseModel\nclass Call(BaseModel):\n    reason: str\n    score: int | None = None\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("house_models:Call", "house_models.Call"):
        contract = schema.load(name)
        assert contract.schema["properties"]["score"]["type"] == ["integer", "null"]
        assert contract.parse('{"reason": "x", "other": 1}') == {"reason": "x", "score": None}
    sys.modules.pop("house_models", None)


LOOSE = """
from collections.abc import Callable
from pydantic import BaseModel
class Unfinished(BaseModel):
    later: "Nowhere"
class Callback(BaseModel):
    call: Callable[[], None]
"""


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no_such_module:Model", "no_such_module"),
        ("json:loads", r"takes package\.module:Model"),
        ("house_exit:Model", "bye"),
        ("nothing", r"takes package\.module:Model"),
        ("/no/such/file.json", "No such file"),
        ("house_slip:Model", "invalid syntax"),
        ("house_fault:Model", "no database"),
        ("house_loose:Unfinished", "not fully defined"),
        ("house_loose:Callback", "JsonSchema"),
        ("..up", r"takes package\.module:Model"),
    ],
)
def test_a_schema_that_cannot_be_loaded_is_refused_at_start(tmp_path, monkeypatch, name, complaint):
    (tmp_path / "house_slip.py").write_text("def f(:", encoding="utf-8")
    (tmp_path / "house_fault.py").write_text("raise RuntimeError('no database')", encoding="utf-8")
    (tmp_path / "house_exit.py").write_text("raise SystemExit('bye')", encoding="utf-8")
    (tmp_path / "house_loose.py").write_text(LOOSE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=complaint) as caught:
        schema.load(name)
    assert "\n" not in str(caught.value)
    sys.modules.pop("house_loose", None)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "Expecting"),
        ('{"type": "obj"}', "not valid under any"),
        ('{"type": "array", "items": {"type": "string"}}', "must be an object"),
        ('{"type": "object"}', "needs properties"),
        ('{"type": "object", "properties": {"a": {"type": ["string", "integer"]}}}', "choice between types"),
        ('{"type": "object", "properties": {"a": {"enum": [1, 2]}}}', "only texts"),
        ('{"type": "object", "properties": {"a": {"enum": ["x", ""]}}}', "not empty"),
        ('{"type": "object", "properties": {"a": {"type": "array"}}}', r"a\[\]"),
        ('{"type": "object", "properties": {"usage": {"type": "string"}}}', "usage is reserved"),
        ('{"type": "object", "properties": {"a": {"$ref": "#"}}}', r"\$ref|refers|\$defs"),
        ('{"properties": {"a": {"$ref": "http://x/y#/$defs/A"}}, "$defs": {"A": {"type": "string"}}}', r"\$defs"),
        ('{"properties": {"a": {"$ref": "#/properties/A"}}, "$defs": {"A": {"type": "string"}}}', r"\$defs"),
        ("NaN", "not an object"),
        ("[" * 60_000, "recursion"),
        ('{"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}', "refers to itself"),
        ("5", "the schema is not an object"),
        (json.dumps({"type": "object", "properties": {f"field_{n}": {} for n in range(10_000)}}), "longer than 65536"),
        (json.dumps({"$ref": "#/$defs/L5", "$defs": LAUGHS}), "longer than 65536"),
    ],
)
def test_a_schema_that_providers_cannot_express_is_refused_at_start(tmp_path, document, complaint):
    file = tmp_path / "schema.json"
    file.write_text(document, encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        schema.load(str(file))


def test_a_model_with_a_free_mapping_is_refused():
    class Loose(BaseModel):
        anything: dict[str, str]

    with pytest.raises(SettingsError, match="needs properties"):
        schema.of_model(Loose)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    name: str


class Nested(BaseModel):
    inner: Inner | None = Field(None, description="What is inside")
    colour: Colour | None = None
    word: Literal["a"] | None = None
    inners: list[Inner | None] = []


def test_models_and_enumerations_may_be_nullable():
    contract = schema.of_model(Nested)
    assert fault_of_schema(translate_schema(contract.schema), "response_schema") == ""
    fields = contract.schema["properties"]
    assert {name: fields[name]["type"] for name in fields} == {
        "inner": ["object", "null"],
        "colour": ["string", "null"],
        "word": ["string", "null"],
        "inners": "array",
    }
    assert fields["inner"]["description"] == "What is inside"
    assert fields["inner"]["properties"] == {"name": {"type": "string"}}
    assert fields["colour"]["enum"] == ["red", "blue", None]
    assert fields["word"]["enum"] == ["a", None]
    assert fields["inners"]["items"]["type"] == ["object", "null"]
    geminis = translate_schema(contract.schema)["properties"]
    assert [geminis[name].get("nullable") for name in fields] == [True, True, True, None]
    assert (geminis["colour"]["enum"], geminis["word"]["enum"]) == (["red", "blue"], ["a"])
    assert geminis["inners"]["items"]["nullable"] is True
    assert contract.parse('{"inner": {"name": "x"}, "colour": null, "inners": [null]}')["inners"] == [None]


def test_all_of_with_one_schema_is_that_schema(tmp_path):
    file = tmp_path / "schema.json"
    tag = {"type": "object", "properties": {"a": {"enum": ["x", None]}}}
    file.write_text(json.dumps({"type": "object", "properties": {"t": {"allOf": [tag]}}}), encoding="utf-8")
    assert schema.load(str(file)).schema["properties"]["t"]["properties"]["a"] == {
        "type": ["string", "null"],
        "enum": ["x", None],
    }


class Score(BaseModel):
    model_config = ConfigDict(extra="forbid")
    score: float = Field(alias="theScore")

    @field_validator("score")
    @classmethod
    def _looked_up(cls, value):
        return {}["secret"] if value == 13 else value


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity", '"nan"'])
def test_numbers_that_are_not_finite_are_refused(number):
    with pytest.raises(schema.InvalidAnswer, match="finite"):
        schema.of_model(Score).parse(f'{{"theScore": {number}}}')


def test_a_field_is_stored_under_its_alias():
    assert schema.of_model(Score).parse('{"theScore": 2.5}') == {"theScore": 2.5}


def test_names_that_the_model_invented_are_masked_in_problems():
    with pytest.raises(schema.InvalidAnswer) as caught:
        schema.of_model(Score).parse('{"theScore": "x", "the secret review": 1}')
    assert str(caught.value) == "theScore: float_parsing; …: extra_forbidden"


def test_at_most_ten_problems_are_named():
    with pytest.raises(schema.InvalidAnswer) as caught:
        schema.of_model(Nested).parse(json.dumps({"inners": [1] * 500}))
    assert str(caught.value).count("model_type") == 10


def test_a_failing_validator_of_an_operator_is_final_and_quotes_nothing():
    with pytest.raises(JobError) as caught:
        schema.of_model(Score).parse('{"theScore": 13}')
    assert (caught.value.code, caught.value.retry_after) == ("enrich_invalid_answer", None)
    assert "KeyError" in str(caught.value)
    assert "secret" not in str(caught.value)
