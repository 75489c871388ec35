"""The options of a job: what `decode.send(source, **options)` takes.

`Options` is the only list of them. Validation, the HTTP API, the command line, the dashboard's form, the key that finds
duplicates and the reference in the docs are derived from its fields. To add an option, add a field here and read it in
the stage that uses it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, Protocol
from urllib.parse import urlsplit

from voicemill.errors import ErrorCode, JobError

# Whisper's languages: keys of `LANGUAGES` in openai/whisper's tokenizer.py; a test compares them with faster-whisper's.
LANGUAGES = tuple(
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy "
    "id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru "
    "sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh".split()
)
TASKS = ("transcribe", "translate")
MAX_METADATA = 64 * 1024  # bytes of JSON: it lives in the record
MAX_LEVELS = 100  # of nested lists and objects in metadata: whoever copies or shows them recurses
MAX_TEXT = 4 * 1024  # characters of `prompt` and of `hotwords`; Whisper reads the last 223 tokens


class Kind(Protocol):
    """The type of an option and its bounds."""

    @property
    def takes(self) -> str:
        """What a value must be, as error messages and docs say it."""

    def accepts(self, value: Any) -> bool:
        """Return whether a value is valid; `None` is not asked about."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a value."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text that can be stored."""

    longest: int  # characters

    @property
    def takes(self) -> str:  # noqa: D102 - as in `Kind`; so are all below
        return f"text of at most {self.longest} characters"

    def accepts(self, value: Any) -> bool:  # noqa: D102
        return is_text(value) and len(value) <= self.longest

    @property
    def schema(self) -> dict[str, Any]:  # noqa: D102
        return {"type": "string", "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts; `example` stands for them where they are too many to be listed."""

    values: tuple[str, ...]
    example: str = ""

    @property
    def takes(self) -> str:  # noqa: D102
        return self.example or " or ".join(map(repr, self.values))

    def accepts(self, value: Any) -> bool:  # noqa: D102
        return isinstance(value, str) and value in self.values

    @property
    def schema(self) -> dict[str, Any]:  # noqa: D102
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or False."""

    takes: str = "True or False"

    def accepts(self, value: Any) -> bool:  # noqa: D102
        return isinstance(value, bool)

    @property
    def schema(self) -> dict[str, Any]:  # noqa: D102
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number."""

    least: int
    most: int

    @property
    def takes(self) -> str:  # noqa: D102
        return f"a whole number from {self.least} to {self.most}"

    def accepts(self, value: Any) -> bool:  # noqa: D102
        return type(value) is int and self.least <= value <= self.most

    @property
    def schema(self) -> dict[str, Any]:  # noqa: D102
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Document:
    """Any JSON, within bounds."""

    takes: str = f"JSON of at most {MAX_METADATA} bytes and {MAX_LEVELS} levels"

    def accepts(self, value: Any) -> bool:  # noqa: D102
        return _is_json(value) and _is_shallow(value)

    @property
    def schema(self) -> dict[str, Any]:  # noqa: D102
        return {}


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An http:// or https:// URL."""

    takes: str = "an http(s) URL"

    def accepts(self, value: Any) -> bool:  # noqa: D102
        return _is_web_address(value)

    @property
    def schema(self) -> dict[str, Any]:  # noqa: D102
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#]"  # validators do not check `format`
        return {"type": "string", "format": "uri", "pattern": pattern, "not": {"pattern": "\\s"}}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is known of an option beside its default."""

    kind: Kind
    help: str  # a phrase, as `--help` and the reference show it
    stage: str  # that uses it
    shapes_transcript: bool = False  # whether the same audio with another value may give another transcript
    in_form: bool = False  # whether the dashboard's form offers it
    metavar: str = ""  # of its value on the command line


def _option(default: Any, kind: Kind, help: str, stage: str, **more: Any) -> Any:  # noqa: A002
    return field(default=default, metadata={"rules": Rules(kind, help, stage, **more)})


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one job. An option whose default is None can be left out or None."""

    language: str | None = _option(
        None,
        Choice(LANGUAGES, "a language code of Whisper such as 'ko'"),
        "language of the recording, such as ko; detected by default",
        "transcribe",
        shapes_transcript=True,
        in_form=True,
        metavar="CODE",
    )
    task: str = _option(
        "transcribe",
        Choice(TASKS),
        "transcribe, or translate to English",
        "transcribe",
        shapes_transcript=True,
        in_form=True,
    )
    prompt: str | None = _option(
        None,
        Text(MAX_TEXT),
        "text that precedes the recording: names, spelling, style",
        "transcribe",
        shapes_transcript=True,
        metavar="TEXT",
    )
    hotwords: str | None = _option(
        None, Text(MAX_TEXT), "words to listen for", "transcribe", shapes_transcript=True, metavar="TEXT"
    )
    word_timestamps: bool = _option(
        False, Flag(), "add the times of each word", "transcribe", shapes_transcript=True, in_form=True
    )
    enrich: bool = _option(True, Flag(), "add a structured summary", "enrich", in_form=True)
    metadata: Any = _option(  # noqa: RUF009 - a field
        None, Document(), "JSON that the job's record returns unchanged", "decode", metavar="JSON"
    )
    callback_url: str | None = _option(
        None, WebAddress(), "URL that is notified of the job's transcript and end", "webhook", metavar="URL"
    )
    dedupe: bool = _option(
        False, Flag(), "reuse the transcript of an earlier job with the same bytes and options", "decode"
    )
    stream: int | None = _option(
        None,
        Integer(0, 255),
        "which of several audio streams, from 0; the default stream by default",
        "decode",
        shapes_transcript=True,
        metavar="N",
    )


TABLE: Mapping[str, Field[Any]] = {each.name: each for each in fields(Options)}
SHAPING = tuple(name for name, each in TABLE.items() if each.metadata["rules"].shapes_transcript)


def rules(name: str) -> Rules:
    """Return the rules of an option.

    Raises:
        KeyError: there is no such option.
    """
    found: Rules = TABLE[name].metadata["rules"]
    return found


def parse(keywords: Mapping[str, Any]) -> Options:
    """Validate the options of a job.

    Raises:
        JobError: `invalid_options`, naming the option, its value and what is accepted.
    """
    unknown = sorted(set(keywords) - set(TABLE))
    if unknown:
        known = ", ".join(sorted(TABLE))
        raise JobError(ErrorCode.INVALID_OPTIONS, f"unknown option {unknown[0]!r}; valid options are {known}")
    for name, value in keywords.items():
        kind, optional = rules(name).kind, TABLE[name].default is None
        if not (kind.accepts(value) or (optional and value is None)):
            takes = f"{kind.takes}, or None" if optional and not isinstance(kind, Document) else kind.takes
            raise JobError(ErrorCode.INVALID_OPTIONS, f"{name} is {shown(value)}; it must be {takes}")
    return Options(**keywords)


def as_dict(options: Options) -> dict[str, Any]:
    """Return the options as the record keeps them."""
    return asdict(options)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the options, as the HTTP API publishes it."""
    properties = {}
    for name, each in TABLE.items():
        known = rules(name)
        schema = known.kind.schema
        if each.default is None and schema:
            schema = {"anyOf": [schema, {"type": "null"}]}
        properties[name] = schema | {"default": each.default, "description": known.help}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def is_text(value: Any) -> bool:
    """Return whether a value is text that can be stored: JSON can hold lone surrogates, which UTF-8 cannot encode."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """Return a sender's value for an error message: bounded, whatever the value is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits; deeply nested lists
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_json(value: Any) -> bool:
    try:
        return len(json.dumps(value, allow_nan=False)) <= MAX_METADATA and is_text(
            json.dumps(value, ensure_ascii=False)
        )
    except (TypeError, ValueError, RecursionError):
        return False


def _is_shallow(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Return whether lists and objects are nested in at most so many levels."""
    if not isinstance(value, dict | list | tuple):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _is_web_address(value: Any) -> bool:
    # `urlsplit` drops line breaks and tabs, which the sender of webhooks refuses like blanks.
    if not is_text(value) or not value.isprintable() or " " in value:
        return False
    try:
        address = urlsplit(value)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)
