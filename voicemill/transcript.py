"""A transcript: its segments and words, how a job's record keeps it, and its renderings as text and subtitles.

All times are in seconds on the recording's own clock.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = ("json", "txt", "srt", "vtt")
LINE = 42  # characters of a subtitle's line: the usual limit of broadcasters and of Netflix's style guide
LINES = 2  # of a subtitle: the same guides'
_WIDE = 0x1100  # first code point of the scripts whose characters are two columns wide: Hangul and later


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word with its punctuation; `probability` is the model's, 0 to 1."""

    start: float
    end: float
    word: str
    probability: float

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Word:
        """Return the word that a job's record keeps."""
        return cls(record["start"], record["end"], record["word"], record.get("probability", 0.0))

    def as_dict(self) -> dict[str, Any]:
        """Return the word as a job's record keeps it."""
        return {
            "start": round(self.start, 2),
            "end": round(self.end, 2),
            "word": self.word,
            "probability": round(self.probability, 3),
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech that reads as one: a sentence, or what stands between two pauses.

    `avg_logprob` is the mean log-probability of the tokens of the window that the segment comes from, `no_speech_prob`
    the model's probability that the window holds no speech. `speaker` is None unless speakers were separated.
    """

    start: float
    end: float
    text: str
    avg_logprob: float
    no_speech_prob: float
    words: tuple[Word, ...] | None = None
    speaker: str | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Segment:
        """Return the segment that a job's record keeps."""
        words = record.get("words")
        return cls(
            record["start"],
            record["end"],
            record["text"],
            record.get("avg_logprob", 0.0),
            record.get("no_speech_prob", 0.0),
            None if words is None else tuple(map(Word.from_dict, words)),
            record.get("speaker"),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the segment as a job's record keeps it."""
        record: dict[str, Any] = {
            "start": round(self.start, 2),
            "end": round(self.end, 2),
            "text": self.text,
            "avg_logprob": round(self.avg_logprob, 3),
            "no_speech_prob": round(self.no_speech_prob, 3),
        }
        if self.words is not None:
            record["words"] = [word.as_dict() for word in self.words]
        if self.speaker is not None:
            record["speaker"] = self.speaker
        return record


@dataclass(frozen=True, slots=True)
class Transcript:
    """The transcript of one recording, and by which model on which device it was made.

    `degraded` is the reason why a CPU did the work of a GPU, if one did.
    """

    text: str
    language: str | None
    language_probability: float | None
    duration: float
    model: str
    device: str
    compute_type: str
    segments: tuple[Segment, ...]
    no_speech: bool
    degraded: str | None = None

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Transcript:
        """Return the transcript that a job's record keeps; fields that another version left out get a neutral value."""
        return cls(
            text=record.get("text", ""),
            language=record.get("language"),
            language_probability=record.get("language_probability"),
            duration=record.get("duration", 0.0),
            model=record.get("model", ""),
            device=record.get("device", ""),
            compute_type=record.get("compute_type", ""),
            segments=tuple(map(Segment.from_dict, record.get("segments", ()))),
            no_speech=record.get("no_speech", False),
            degraded=record.get("degraded_reason", "") if record.get("degraded") else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the transcript as a job's record keeps it."""
        probability = self.language_probability
        record: dict[str, Any] = {
            "text": self.text,
            "language": self.language,
            "language_probability": None if probability is None else round(probability, 3),
            "duration": round(self.duration, 2),
            "model": self.model,
            "device": self.device,
            "compute_type": self.compute_type,
            "segments": [segment.as_dict() for segment in self.segments],
            "no_speech": self.no_speech,
        }
        if self.degraded is not None:
            record |= {"degraded": True, "degraded_reason": self.degraded}
        return record

    def render(self, format: str) -> str:  # noqa: A002 - the name that the commands use
        """Return the transcript as `json`, `txt`, `srt` or `vtt`, ending with a newline.

        Raises:
            ValueError: the format is unknown.
        """
        if format == "json":
            return json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n"
        renderings = {"txt": self.txt, "srt": self.srt, "vtt": self.vtt}
        if format not in renderings:
            raise ValueError(f"format is {format!r}; use one of {', '.join(FORMATS)}")
        return renderings[format]()

    def txt(self) -> str:
        """Return the text, one segment a line."""
        return "".join(f"{segment.text.strip()}\n" for segment in self.segments)

    def srt(self) -> str:
        """Return SubRip subtitles."""
        blocks = [
            f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
            for number, cue in enumerate(self.cues(), 1)
        ]
        return "\n".join(blocks)

    def vtt(self) -> str:
        """Return WebVTT subtitles."""
        blocks = [f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in self.cues()]
        return "\n".join(["WEBVTT\n", *blocks])

    def cues(self) -> list[Cue]:
        """Split the segments into subtitles that fit on the screen, in order and without overlap."""
        found: list[Cue] = []
        for segment in self.segments:
            for cue in _split(segment):
                start = max(cue.start, found[-1].end) if found else cue.start
                found.append(Cue(start, max(cue.end, start + 0.001), cue.text))
        return found


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: at most two lines, shown from `start` to `end`."""

    start: float
    end: float
    text: str


def _split(segment: Segment) -> Iterator[Cue]:
    """Yield a segment's cues; their times come from the words if it has them, else from the share of the text."""
    text = " ".join(segment.text.split())
    lines = _wrapped(text)
    screens = ["\n".join(lines[at : at + LINES]) for at in range(0, len(lines), LINES)]
    start, end = float(segment.start), float(segment.end)
    words, total, passed = segment.words or (), len(text.replace(" ", "")), 0
    for screen in screens:
        length = len("".join(screen.split()))
        if words:
            first, last = _word_at(words, passed), _word_at(words, passed + length - 1)
            yield Cue(float(first.start), float(last.end), screen)
        else:
            span = (end - start) / max(1, total)
            yield Cue(start + span * passed, start + span * (passed + length), screen)
        passed += length


def _word_at(words: tuple[Word, ...], position: int) -> Word:
    """Return the word that holds the character at `position`, not counting blanks."""
    for word in words:
        position -= len("".join(word.word.split()))
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
