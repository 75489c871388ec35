"""The schema of a summary and the validation of answers against it.

`Summary` is the default; an operator's `ENRICH_SCHEMA` replaces it. Either becomes a JSON Schema limited to what all
providers can express, which goes along with each request: no references, no unions, and one of the types `object`,
`array`, `string`, `number`, `integer` and `boolean`, or a list of one of them and `null`. Answers are validated again,
since models mostly, but not always, follow it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from config.environment import ROOT
from config.settings import SettingsError
from voicemill.errors import ErrorCode, JobError

RESERVED = ("model", "usage", "latency", "tries", "cost_usd")  # fields that the job record adds to those of the schema
CLEANED = "cleaned_text"  # as long as the message itself; for a long message it is written part by part
KEYWORDS = ("type", "format", "description", "enum", "properties", "required", "items", "minItems", "maxItems")
TYPES = ("object", "array", "string", "number", "integer", "boolean")
MAX_PROBLEMS = 10  # named in the request for a repair
MAX_DEPTH = 20  # levels of a schema; a deeper one refers to itself
MAX_SCHEMA = 65_536  # bytes: it is part of every request
FORMS = "takes package.module:Model, a pydantic model, or a *.json file"


def _cut(length: int) -> BeforeValidator:
    """Return a validator that cuts a text or list to `length`, rather than reject the whole answer."""
    return BeforeValidator(lambda value: value[:length] if isinstance(value, str | list) else value)


Line = Annotated[str, _cut(200)]
Paragraph = Annotated[str, _cut(4000)]
Names = Annotated[list[Line], _cut(50)]
Lowercase = BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value)


class ActionItem(BaseModel):
    """A task that the message mentions."""

    task: Line = Field(description="What is to be done")
    owner: Line | None = Field(None, description="Who is to do it, if spoken")
    due: Line | None = Field(None, description="By when, if spoken: a date as YYYY-MM-DD where it is certain")


class CustomField(BaseModel):
    """An additional field that the operator's prompt asks for."""

    name: Line
    value: Paragraph


class Summary(BaseModel):
    """The default schema. Texts and lists that are too long are cut, and unknown fields dropped."""

    title: Line = Field(description="One line of at most ten words")
    summary: Paragraph = Field(description="One to four sentences")
    language: Annotated[str, _cut(35)] = Field(description="Language of the message, as a code such as en or pt-BR")
    topics: Names = Field(description="What it is about, a few words each")
    action_items: Annotated[list[ActionItem], _cut(50)] = Field(description="Tasks that were spoken of")
    sentiment: Annotated[Literal["positive", "neutral", "negative", "mixed"], Lowercase] = Field(description="Its mood")
    urgency: Annotated[Literal["low", "normal", "high"], Lowercase] = Field(
        description="How soon it must be dealt with"
    )
    people: Names = Field(description="Names of people that were spoken")
    places: Names = Field(description="Names of places that were spoken")
    cleaned_text: str = Field(description="The whole message in its own words, punctuated, without fillers")
    custom: Annotated[list[CustomField], _cut(50)] = Field(
        [], description="Only what the instructions name as custom fields; otherwise empty"
    )


class Notes(BaseModel):
    """Notes on one part of a long message."""

    notes: Annotated[str, _cut(20_000)] = Field(description="Notes of all that matters")
    cleaned_text: str = Field(description="The whole part in its own words, punctuated, without fillers")


class BriefNotes(BaseModel):
    """The same where the schema of the summary has no cleaned-up text."""

    notes: Annotated[str, _cut(20_000)] = Field(description="Notes of all that matters")


class InvalidAnswer(ValueError):
    """An answer does not fit its schema; `problems` name fields and rules and never quote the answer."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems[:MAX_PROBLEMS]))


@dataclass(frozen=True, slots=True)
class Contract:
    """What an answer must look like."""

    schema: dict[str, Any]  # JSON Schema, limited as described above
    check: Callable[[Any], dict[str, Any]]  # returns the valid document or raises `InvalidAnswer`

    @property
    def cleaned(self) -> bool:
        """Whether it asks for the whole text, cleaned up."""
        return "string" in _types(self.schema["properties"].get(CLEANED, {}))

    def parse(self, text: str) -> dict[str, Any]:
        """Parse and validate an answer.

        Raises:
            InvalidAnswer: it is not JSON or does not fit the schema.
            JobError: `enrich_invalid_answer`, the operator's validator failed: asking again would cost and not help.
        """
        try:
            document = json.loads(_without_fence(text))
            # Models write lone surrogates, which can be neither stored nor sent.
            document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise InvalidAnswer(["the answer is not JSON"]) from None
        try:
            document = self.check(document)
            json.dumps(document, allow_nan=False)
        except InvalidAnswer:
            raise
        except ValueError:
            raise InvalidAnswer(["a number is not finite"]) from None
        except Exception as error:  # noqa: BLE001 - an operator's validator may raise anything, quoting the answer
            fault = f"the validator of ENRICH_SCHEMA failed: {type(error).__name__}"
            raise JobError(ErrorCode.ENRICH_INVALID_ANSWER, fault) from None
        return document

    def with_cleaned(self, text: str) -> Contract:
        """Return a contract for answers without the cleaned-up text; `text` is added before the check."""
        properties = {name: inner for name, inner in self.schema["properties"].items() if name != CLEANED}
        required = [name for name in self.schema.get("required", ()) if name != CLEANED]
        schema = {**self.schema, "properties": properties, "required": required}
        return Contract(schema, lambda value: self.check(value | {CLEANED: text} if isinstance(value, dict) else value))


def of_model(model: type[BaseModel]) -> Contract:
    """Return the contract of a pydantic model.

    Raises:
        SettingsError: it cannot be expressed in the limited JSON Schema.
    """

    def check(value: Any) -> dict[str, Any]:
        try:
            return model.model_validate(value).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            problems = [f"{_place(item['loc'], known)}: {item['type']}" for item in error.errors()]
            raise InvalidAnswer(problems) from None

    contract = _contract(model.model_json_schema(), check, model.__name__)
    known = set(_names(contract.schema))
    return contract


def load(name: str | None) -> Contract:
    """Return the contract that `ENRICH_SCHEMA` names; None: the default.

    Raises:
        SettingsError: there is no such model or file, or it cannot be expressed in the limited JSON Schema.
    """
    if name is None:
        return of_model(Summary)
    try:
        # A relative path starts at the folder of the Procfile.
        return _of_file(ROOT / name) if name.endswith(".json") else of_model(_named(name))
    except SettingsError:
        raise
    except OSError as error:
        raise SettingsError(f"ENRICH_SCHEMA is {name!r}: {error.strerror or error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an operator's module may raise anything
        raise SettingsError(f"ENRICH_SCHEMA is {name!r}: {_first_line(error)}") from None


def _named(name: str) -> type[BaseModel]:
    module, _, attribute = name.replace(":", ".").rpartition(".")
    if not module or module.startswith("."):
        raise SettingsError(f"ENRICH_SCHEMA is {name!r}: {FORMS}")
    model = getattr(importlib.import_module(module), attribute)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise SettingsError(f"ENRICH_SCHEMA is {name!r}: {FORMS}")
    return model


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _of_file(path: Path) -> Contract:
    import jsonschema  # noqa: PLC0415 - needed for schema files alone

    with path.open("rb") as file:
        text = file.read(MAX_SCHEMA + 1)
    if len(text) > MAX_SCHEMA:
        raise _too_long(str(path))
    schema = json.loads(text.decode("utf-8-sig"))  # editors on Windows write a byte order mark
    if not isinstance(schema, dict):
        raise SettingsError(f"ENRICH_SCHEMA is {str(path)!r}: the schema is not an object")
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    validator.check_schema(schema)

    def check(value: Any) -> dict[str, Any]:
        kept = _prune(value, contract.schema)
        errors = validator(schema, format_checker=validator.FORMAT_CHECKER).iter_errors(kept)
        problems = [f"{_place(error.absolute_path, known)}: {error.validator}" for error in errors]
        if problems or not isinstance(kept, dict):
            raise InvalidAnswer(problems or ["the answer is not an object"])
        return kept

    contract = _contract(schema, check, str(path))
    known = set(_names(contract.schema))
    return contract


def _too_long(name: str) -> SettingsError:
    return SettingsError(f"ENRICH_SCHEMA is {name!r}: longer than {MAX_SCHEMA} bytes")


def _contract(schema: dict[str, Any], check: Callable[[Any], dict[str, Any]], name: str) -> Contract:
    definitions: dict[str, Any] = schema.get("$defs") or schema.get("definitions") or {}
    plain = _normalized(schema, definitions, name)
    if "object" not in _types(plain):
        raise SettingsError(f"ENRICH_SCHEMA is {name!r}: the answer must be an object")
    if len(json.dumps(plain).encode()) > MAX_SCHEMA:  # resolving references may have multiplied it
        raise _too_long(name)
    taken = [field for field in RESERVED if field in plain["properties"]]
    if taken:
        raise SettingsError(f"ENRICH_SCHEMA is {name!r}: {', '.join(taken)} is reserved for the job record")
    return Contract(plain, check)


def _normalized(schema: Any, definitions: dict[str, Any], at: str, depth: int = 0) -> dict[str, Any]:
    """Return a JSON Schema in the limited form: references resolved, one type each, known keywords only."""

    def fail(problem: str) -> SettingsError:
        return SettingsError(f"ENRICH_SCHEMA cannot be used: {at}: {problem}")

    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        raise fail("it refers to itself" if depth > MAX_DEPTH else "a schema must be an object")
    schema = _one_type(schema, fail)
    place, _, name = str(schema.get("$ref", "")).rpartition("/")
    if name and (place not in ("#/$defs", "#/definitions") or name not in definitions):
        raise fail(f"{schema['$ref']} is not in $defs")
    if name:
        rest = {word: value for word, value in schema.items() if word != "$ref"}
        return _normalized(definitions[name] | rest, definitions, at, depth + 1)
    found = {word: schema[word] for word in KEYWORDS if word in schema} | _enumeration(schema, fail)
    kind = found.get("type") or ("object" if "properties" in found else None)
    if kind not in TYPES:
        raise fail(f"type {kind!r}")
    found |= _nullable(kind, found.get("enum"), bool(schema.get("nullable")))
    if kind == "array":
        found["items"] = _normalized(found.get("items"), definitions, f"{at}[]", depth + 1)
    if kind == "object":
        if not found.get("properties"):
            raise fail("an object needs properties")
        fields = found["properties"].items()
        found["properties"] = {
            name: _normalized(inner, definitions, f"{at}.{name}", depth + 1) for name, inner in fields
        }
        found["required"] = [name for name in found.get("required", ()) if name in found["properties"]]
    return found


def _enumeration(schema: dict[str, Any], fail: Callable[[str], SettingsError]) -> dict[str, Any]:
    """Return the keywords of an enumeration or constant, of texts alone; empty: it is neither."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is None:
        return {}
    words = [value for value in values if value is not None]
    if not words or not all(isinstance(word, str) and word for word in words):
        raise fail("only texts that are not empty can be enumerated")
    return {"type": "string", "enum": list(values)}


def _nullable(kind: str, values: list[str | None] | None, nullable: bool) -> dict[str, Any]:
    """Return the keywords for the type and enumeration of a value that may be null."""
    nullable = nullable or (values is not None and None in values)
    types = {"type": [kind, "null"] if nullable else kind}
    return types if values is None else types | {"enum": list(dict.fromkeys([*values, None] if nullable else values))}


def _one_type(schema: dict[str, Any], fail: Callable[[str], SettingsError]) -> dict[str, Any]:
    """Replace a union of X and null by X with OpenAPI's `nullable`; X may still be a reference.

    Raises:
        SettingsError: there is more than one type beside null.
    """
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        others = [choice for choice in choices if not (isinstance(choice, dict) and choice.get("type") == "null")]
        if len(others) != 1 or not isinstance(others[0], dict):
            raise fail("a choice between types")
        rest = {word: value for word, value in schema.items() if word not in ("anyOf", "oneOf", "allOf", "default")}
        schema = {**others[0], **rest} | ({"nullable": True} if len(others) < len(choices) else {})
    if isinstance(schema.get("type"), list):
        kinds = [kind for kind in schema["type"] if kind != "null"]
        if len(kinds) != 1:
            raise fail("a choice between types")
        schema = schema | {"type": kinds[0]} | ({"nullable": True} if "null" in schema["type"] else {})
    return schema


def _types(schema: dict[str, Any]) -> list[str]:
    """Return the types of a value, `null` included."""
    types = schema.get("type", [])
    return [types] if isinstance(types, str) else types


def _prune(value: Any, schema: dict[str, Any]) -> Any:
    """Return a value without the properties that its schema does not name."""
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        return {name: _prune(inner, known[name]) for name, inner in value.items() if name in known}
    if isinstance(value, list) and "items" in schema:
        return [_prune(inner, schema["items"]) for inner in value]
    return value


def _names(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all properties of a schema."""
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from _names(inner)
    if "items" in schema:
        yield from _names(schema["items"])


def _place(path: Any, known: set[str]) -> str:
    """Return the path of a field; names that are not in the schema come from the model and are masked."""
    return ".".join(str(step) if isinstance(step, int) or step in known else "…" for step in path) or "the answer"


def _without_fence(text: str) -> str:
    """Return an answer without the Markdown fences that models put around JSON despite the schema."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text.partition("\n")[2].removesuffix("```")
    return text
