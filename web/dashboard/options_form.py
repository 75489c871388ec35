"""The options of a job as fields of the dashboard's form: made from the table of options, and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field as DataclassField
from dataclasses import dataclass
from typing import Any

from voicemill import options
from voicemill.options import Choice, Document, Flag, Integer, Rules, Text
from web.dashboard.language import Texts
from web.forms import Form
from web.problems import Problem

# Unlike other clients the dashboard shows the words as they are played, so it asks for their times.
CHECKED = {"word_timestamps": True}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form."""

    name: str
    rules: Rules
    default: Any

    @property
    def control(self) -> str:
        """The form's element: `select`, `checkbox`, `textarea`, or the type of an `input`."""
        match self.rules.kind:
            case Choice():
                return "select"
            case Flag():
                return "checkbox"
            case Integer():
                return "number"
            case Document():
                return "textarea"
            case _:
                return "text"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a `select`, sorted; the empty value, which leaves the option out, is not among them."""
        return tuple(sorted(self.rules.kind.values)) if isinstance(self.rules.kind, Choice) else ()

    @property
    def attributes(self) -> dict[str, Any]:
        """The bounds that the browser checks, as attributes of the element."""
        kind = self.rules.kind
        if isinstance(kind, Integer):
            return {"min": kind.least, "max": kind.most}
        return {"maxlength": kind.longest} if isinstance(kind, Text) else {}

    @property
    def names_languages(self) -> bool:
        """Whether its values are language codes, which a script replaces by names."""
        return isinstance(self.rules.kind, Choice) and self.rules.kind.values == options.LANGUAGES

    def label(self, texts: Texts) -> str:
        """Return its label in the reader's language, or the option's help if it has none."""
        found: str = texts["options"].get(self.name, self.rules.help)
        return found

    def label_of(self, value: str, texts: Texts) -> str:
        """Return the label of one of its values; the value itself if it has none, "–" for none chosen."""
        found: str = texts["choices"].get(f"{self.name}_{value or 'none'}", value or "–")
        return found

    def read(self, form: Form) -> dict[str, Any]:
        """Return the option as the form has it; empty: it was left at its default.

        Raises:
            Problem: the value is not one of the option's type. Its bounds are checked when the job is sent.
        """
        text = form.one(self.name)
        if self.control == "checkbox":  # a browser leaves an unchecked one out
            return {self.name: text is not None}
        if not text:
            return {}
        try:
            value = int(text) if self.control == "number" else json.loads(text) if self.control == "textarea" else text
        except ValueError:
            kind = self.rules.kind.takes
            raise Problem(400, "invalid_request", f"{self.name}: must be {kind}", param=self.name) from None
        return {self.name: value}


def fields(table: Mapping[str, DataclassField[Any]] = options.TABLE) -> tuple[Field, ...]:
    """Return the fields of the form: every option of the table that has `in_form`."""
    return tuple(
        Field(name, each.metadata["rules"], CHECKED.get(name, each.default))
        for name, each in table.items()
        if each.metadata["rules"].in_form
    )


FIELDS = fields()


def read(form: Form) -> dict[str, Any]:
    """Return the options that a submitted form has.

    Raises:
        Problem: a value is not one of its option's type.
    """
    found: dict[str, Any] = {}
    for field in FIELDS:
        found |= field.read(form)
    return found
