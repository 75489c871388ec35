"""What a sender may ask for with a message: the keywords of `decode.send()`, checked before anything is queued.

Part of the backend's path: the standard library alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from voicemill.errors import JobError

# Whisper's languages: keys of `LANGUAGES` in openai/whisper's tokenizer.py; a test holds them to faster-whisper's.
LANGUAGES = frozenset(
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy "
    "id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru "
    "sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh".split()
)
TASKS = ("transcribe", "translate")
MAX_METADATA = 64 * 1024  # bytes of JSON: it travels in the message and lives in the record
MAX_LEVELS = 100  # of lists and objects within each other in metadata: whoever copies or shows them recurses
MAX_TEXT = 4 * 1024  # characters of `prompt` and of `hotwords`; Whisper reads the last 223 tokens


@dataclass(frozen=True, slots=True)
class Options:
    """One message's options, as `decode.send(source, **options)` takes them."""

    language: str | None = None  # ISO code such as "ko"; None: detect
    task: str = "transcribe"  # or "translate", to English
    prompt: str | None = None  # text that precedes the message: names, spelling, style
    hotwords: str | None = None  # words to listen for
    word_timestamps: bool = False
    enrich: bool = True  # False: the job is done with its transcript
    metadata: Any = None  # JSON of the sender's, handed back as it came
    callback_url: str | None = None
    dedupe: bool = False  # True: a message with the same bytes and options gives its transcript, if there is one
    stream: int | None = None  # which of several audio streams, from 0; None: the default one


def parse(keywords: dict[str, Any]) -> Options:
    """Check the keywords of a message.

    Raises:
        JobError: `invalid_options`, naming the option, what it got and what it takes.
    """
    known = {field.name for field in fields(Options)}
    unknown = sorted(set(keywords) - known)
    if unknown:
        raise JobError("invalid_options", f"unknown option {unknown[0]!r}; known are {', '.join(sorted(known))}")
    options = Options(**keywords)
    language = options.language
    spoken = language is None or (isinstance(language, str) and language in LANGUAGES)
    _check(spoken, "language", "a code of Whisper's such as 'ko', or None", options)
    _check(options.task in TASKS, "task", " or ".join(map(repr, TASKS)), options)
    for name in ("prompt", "hotwords"):
        value = getattr(options, name)
        fits = value is None or (is_text(value) and len(value) <= MAX_TEXT)
        _check(fits, name, f"text of at most {MAX_TEXT} characters, or None", options)
    for name in ("word_timestamps", "enrich", "dedupe"):
        _check(isinstance(getattr(options, name), bool), name, "True or False", options)
    takes = f"JSON of at most {MAX_METADATA} bytes and {MAX_LEVELS} levels"
    _check(_is_json(options.metadata) and _is_flat(options.metadata), "metadata", takes, options)
    _check(
        options.callback_url is None or _is_web_address(options.callback_url), "callback_url", "an http(s) URL", options
    )
    stream = options.stream
    _check(stream is None or (type(stream) is int and 0 <= stream < 256), "stream", "a number from 0, or None", options)
    return options


def as_dict(options: Options) -> dict[str, Any]:
    """Return the options as the record keeps them."""
    return asdict(options)


def is_text(value: Any) -> bool:
    """Tell whether a value is text that can be stored: JSON can hold halves of characters, which no encoding takes."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """Return a sender's value fit for a message: bounded, and whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of too many digits; lists within lists within lists
        return f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check(good: bool, name: str, takes: str, options: Options) -> None:
    if not good:
        raise JobError("invalid_options", f"{name} is {shown(getattr(options, name))}: it takes {takes}")


def _is_json(value: Any) -> bool:
    try:
        return len(json.dumps(value, allow_nan=False)) <= MAX_METADATA and is_text(
            json.dumps(value, ensure_ascii=False)
        )
    except (TypeError, ValueError, RecursionError):
        return False


def _is_flat(value: Any, levels: int = MAX_LEVELS) -> bool:
    """Tell whether no more than so many lists and objects lie within each other."""
    if not isinstance(value, dict | list | tuple):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(each, levels - 1) for each in inner)


def _is_web_address(value: Any) -> bool:
    if not is_text(value):
        return False
    try:
        address = urlsplit(value)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)
