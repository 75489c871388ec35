"""A transcript as people want to read it: JSON, plain text, or subtitles (SRT, WebVTT) wrapped as subtitles are.

Works on the transcript as it stands in the job record, so that a command on any machine can show it.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("json", "txt", "srt", "vtt")
LINE = 42  # characters; the usual limit of broadcasters and of Netflix's style guide
LINES = 2  # the same guides'
_WIDE = 0x1100  # from Hangul on, scripts whose characters are two columns wide begin


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: at most two lines, shown from `start` to `end` (seconds)."""

    start: float
    end: float
    text: str


def render(transcript: dict[str, Any], format: str) -> str:  # noqa: A002 - the name that the commands use
    """Return the transcript of a job record as `json`, `txt`, `srt` or `vtt`, ending with a newline.

    Raises:
        ValueError: the format is unknown.
    """
    if format == "json":
        return json.dumps(transcript, ensure_ascii=False, indent=2) + "\n"
    if format == "txt":
        return "".join(f"{segment['text'].strip()}\n" for segment in transcript["segments"])
    if format == "srt":
        blocks = [
            f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
            for number, cue in enumerate(cues(transcript), 1)
        ]
        return "\n".join(blocks)
    if format == "vtt":
        blocks = [
            f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in cues(transcript)
        ]
        return "\n".join(["WEBVTT\n", *blocks])
    raise ValueError(f"format is {format!r}; it takes one of {', '.join(FORMATS)}")


def cues(transcript: dict[str, Any]) -> list[Cue]:
    """Split the segments into subtitles that fit on the screen, in order and without overlap."""
    found: list[Cue] = []
    for segment in transcript["segments"]:
        for cue in _split(segment):
            start = max(cue.start, found[-1].end) if found else cue.start
            found.append(Cue(start, max(cue.end, start + 0.001), cue.text))
    return found


def _split(segment: dict[str, Any]) -> Iterator[Cue]:
    """Yield a segment's cues; their times come from the words where it has them, else from the share of the text."""
    text = " ".join(segment["text"].split())
    lines = _wrapped(text)
    screens = ["\n".join(lines[at : at + LINES]) for at in range(0, len(lines), LINES)]
    start, end = float(segment["start"]), float(segment["end"])
    words, total, passed = segment.get("words") or [], len(text.replace(" ", "")), 0
    for screen in screens:
        length = len("".join(screen.split()))
        if words:
            first, last = _word_at(words, passed), _word_at(words, passed + length - 1)
            yield Cue(float(first["start"]), float(last["end"]), screen)
        else:
            span = (end - start) / max(1, total)
            yield Cue(start + span * passed, start + span * (passed + length), screen)
        passed += length


def _word_at(words: list[dict[str, Any]], position: int) -> dict[str, Any]:
    """Return the word in which the character at `position`, blanks not counted, stands."""
    for word in words:
        position -= len("".join(word["word"].split()))
        if position < 0:
            return word
    return words[-1]


def _wrapped(text: str) -> list[str]:
    """Break text into lines; scripts with wide characters and no blanks get half as many in a line."""
    wide = sum(ord(character) >= _WIDE for character in text) > len(text) / 2
    return textwrap.wrap(text, LINE // 2 if wide else LINE, break_on_hyphens=False)


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def _escaped(text: str) -> str:
    """WebVTT reads &, < and > as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
