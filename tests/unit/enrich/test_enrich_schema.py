"""The contract: Voicemill's own and operators', in words that Gemini takes, and checked on return."""

import json
import sys

import pytest
from gemini_server import example, fault_of_schema
from pydantic import BaseModel

from config.settings import SettingsError
from pipeline.enrich import schema


def test_voicemills_own_contract_is_one_that_gemini_takes_and_answers():
    contract = schema.load(None)
    assert fault_of_schema(contract.schema, "response_schema") == ""
    document = contract.parse(json.dumps(example(contract.schema)))
    assert set(document) == set(contract.schema["properties"])
    assert contract.cleaned


def test_the_answer_may_stand_between_fences():
    contract = schema.load(None)
    assert contract.parse("```json\n" + json.dumps(example(contract.schema)) + "\n```")["urgency"] == "low"


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
    file.write_text(json.dumps(TICKET), encoding="utf-8")
    return schema.load(str(file))


def test_an_operators_json_schema_is_translated_and_held(ticket):
    assert fault_of_schema(ticket.schema, "response_schema") == ""
    assert ticket.schema["properties"]["due"] == {"type": "STRING", "nullable": True}
    assert not ticket.cleaned
    assert ticket.parse('{"kind": "bug", "score": 3, "tags": [{"name": "a", "x": 1}], "admin": 1}') == {
        "kind": "bug",
        "score": 3,
        "tags": [{"name": "a"}],
    }


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"kind": "bug"}', '{"kind": "odd", "score": 1}', '{"kind": "bug", "score": 9}']
)
def test_what_does_not_fit_an_operators_schema_is_refused_without_being_quoted(ticket, text):
    with pytest.raises(schema.UnfitAnswer) as caught:
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
        assert contract.schema["properties"]["score"]["nullable"] is True
        assert contract.parse('{"reason": "x", "other": 1}') == {"reason": "x", "score": None}
    sys.modules.pop("house_models", None)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("no_such_module:Model", "no_such_module"),
        ("json:loads", "takes a pydantic model"),
        ("nothing", "nothing"),
        ("/no/such/file.json", "No such file"),
    ],
)
def test_a_schema_that_cannot_be_had_is_refused_at_the_start(name, complaint):
    with pytest.raises(SettingsError, match=complaint):
        schema.load(name)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "Expecting"),
        ('{"type": "obj"}', "not valid under any"),
        ('{"type": "array", "items": {"type": "string"}}', "must be an object"),
        ('{"type": "object"}', "needs properties"),
        ('{"type": "object", "properties": {"a": {"type": ["string", "integer"]}}}', "choice between types"),
        ('{"type": "object", "properties": {"a": {"enum": [1, 2]}}}', "only texts"),
        ('{"type": "object", "properties": {"a": {"type": "array"}}}', r"a\[\]"),
        ('{"type": "object", "properties": {"usage": {"type": "string"}}}', "usage is a name of the job record"),
        ('{"type": "object", "properties": {"a": {"$ref": "#"}}}', r"\$ref|refers|\$defs"),
        ('{"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}', "refers to itself"),
    ],
)
def test_a_schema_without_words_of_geminis_is_refused_at_the_start(tmp_path, document, complaint):
    file = tmp_path / "schema.json"
    file.write_text(document, encoding="utf-8")
    with pytest.raises(SettingsError, match=complaint):
        schema.load(str(file))


def test_a_model_that_takes_a_free_mapping_is_refused():
    class Loose(BaseModel):
        anything: dict[str, str]

    with pytest.raises(SettingsError, match="needs properties"):
        schema.of_model(Loose)
