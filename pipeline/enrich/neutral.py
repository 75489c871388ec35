"""Makes a model's words harmless to whoever shows them: links that do not link, markup that is not markup.

A summary ends up in chats, mails and web pages. A model that was talked into writing `<img src=…>` or
`[click](https://evil.example)` must not act there through us.
"""

from __future__ import annotations

import re
from typing import Any

# What is not seen but changes how text is read: controls but for tab and newline, zero-width and bidirectional marks.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")  # "3 < 5" stays as it is
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINK = re.compile(r"(?<=\])(?=[(\[])")  # between the two halves of a Markdown link
_SCHEME = re.compile(r"(?i)\b(?:https?|ftp|wss?|file|javascript|vbscript|data|blob|mailto|tel|sms|intent)(?=:\S)")
_HOST = re.compile(r"(?i)(?<![\w@.])(?:www\.[\w-]+(?:\.[\w-]+)*|[\w-]+(?:\.[\w-]+)*\.[a-z]{2,24}(?=[/?:#]\S))")


def visible(text: str) -> str:
    """Return `text` without characters that cannot be seen, surrogates included."""
    return _INVISIBLE.sub("", text.replace("\r\n", "\n")).encode("utf-8", "replace").decode()


def neutralise(value: Any, limit: int) -> Any:
    """Return a JSON value whose every text is plain and of at most `limit` characters."""
    if isinstance(value, str):
        return plain(value[:limit])
    if isinstance(value, list):
        return [neutralise(item, limit) for item in value]
    if isinstance(value, dict):
        return {plain(str(name))[:200]: neutralise(item, limit) for name, item in value.items()}
    return value


def plain(text: str) -> str:
    """Return `text` with tags, Markdown links and addresses written so that nothing takes them for what they are."""
    text = _TAG.sub("‹", visible(text))
    text = _ENTITY.sub("＆", text)
    text = _LINK.sub(" ", text)
    text = _SCHEME.sub(lambda match: _defanged(match[0]), text)
    return _HOST.sub(lambda match: match[0].replace(".", "[.]"), text)


def _defanged(scheme: str) -> str:
    return "hxxp" + scheme[4:] if scheme.lower().startswith("http") else f"{scheme[0]}-{scheme[1:]}"
