"""Makes a model's text safe to display: links do not link, and markup has no effect.

A summary ends up in chats, mails and web pages. If a speaker talks the model into writing `<img src=…>` or
`[click](https://evil.example)`, that must do nothing there.
"""

from __future__ import annotations

import re
from typing import Any

# Invisible characters that change how text reads: controls except tab and newline, zero-width and bidirectional marks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
_TAG = re.compile(r"<(?=[a-zA-Z/!?@#:])")  # of HTML, or a mention in a chat; "3 < 5" is kept
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINK = re.compile(r"(?<=\])(?=[(\[])")  # between the two halves of a Markdown link
_EMPHASIS = re.compile(r"(\*\*|~~|```)(?=\S)(.{1,200}?)(?<=\S)\1", re.DOTALL)
_MENTION = re.compile(r"(?i)(?<![\w.])@(?=(?:everyone|here|channel|all)\b)")
_SCHEME = re.compile(
    r"(?i)\b(?:(?:https?|ftp|wss?|file|javascript|vbscript|data|blob|mailto|tel|sms|intent)(?=:\S)"
    r"|[a-z][a-z\d+.-]{1,30}(?=://))"
)
# Chats turn bare host names into links. "noon.Then" is not one, since an ending is not capitalized like a name.
_ENDING = (
    r"(?:(?i:com|net|org|info|biz|app|dev|xyz|top|site|online|store|shop|club|live|link|click|page|cloud|space|website|icu)"
    r"|ac|ae|ai|ar|at|au|be|br|by|ca|cc|ch|cl|cn|co|cz|de|dk|es|eu|fi|fm|fr|gg|gl|gr|hk|hu|ie|il|im|in|io|ir|is|it|jp"
    r"|ke|kr|la|li|lt|lu|lv|ly|me|mx|my|ng|nl|no|nu|nz|ph|pl|pt|pw|ro|rs|ru|sa|se|sg|sh|si|sk|su|th|tk|to|tr|tv|tw|ua"
    r"|uk|us|vn|ws|za)"
)
_HOST = re.compile(
    r"(?<![\w@.+%-])(?:(?i:www)\.[\w-]+(?:\.[\w-]+)*"
    rf"|[\w-]+(?:\.[\w-]+)*\.(?:{_ENDING}(?![\w@-]|\.\w)|[a-zA-Z]{{2,24}}(?=/|[?:#]\S))"
    r"|\d{1,3}(?:\.\d{1,3}){3}(?=[/:]\S))"
)


def visible(text: str) -> str:
    """Return `text` without invisible characters and lone surrogates."""
    return _INVISIBLE.sub("", text.replace("\r\n", "\n")).encode("utf-8", "replace").decode()


def one_line(text: str) -> str:
    """Return a server's message as one printable line, for records and terminals."""
    return " ".join(visible(text).split())


def sanitize(value: Any, limit: int) -> Any:
    """Return a JSON value with all its texts plain and cut to `limit` characters."""
    if isinstance(value, str):
        return plain(value[:limit])
    if isinstance(value, list):
        return [sanitize(item, limit) for item in value]
    if isinstance(value, dict):
        return {plain(str(name))[:200]: sanitize(item, limit) for name, item in value.items()}
    return value


def plain(text: str) -> str:
    """Return `text` with tags, Markdown, mentions and addresses rewritten so that no program acts on them."""
    text = _EMPHASIS.sub(r"\2", _TAG.sub("‹", visible(text)))
    text = _MENTION.sub("＠", text)
    text = _ENTITY.sub("＆", text)
    text = _LINK.sub(" ", text)
    text = _SCHEME.sub(lambda match: _defanged(match[0]), text)
    return _HOST.sub(lambda match: match[0].replace(".", "[.]"), text)


def _defanged(scheme: str) -> str:
    return "hxxp" + scheme[4:] if scheme.lower().startswith("http") else f"{scheme[0]}-{scheme[1:]}"
