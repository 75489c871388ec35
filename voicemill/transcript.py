"""What the engine returns: a transcript, its segments, their words; all times in seconds from the message's start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word with the punctuation that clings to it; `probability` is the model's, 0 to 1."""

    start: float
    end: float
    word: str
    probability: float

    def as_dict(self) -> dict[str, Any]:
        """Return the word as it stands in the job record."""
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
    what the model thinks of there being no speech in it.
    """

    start: float
    end: float
    text: str
    avg_logprob: float
    no_speech_prob: float
    words: tuple[Word, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the segment as it stands in the job record."""
        record: dict[str, Any] = {
            "start": round(self.start, 2),
            "end": round(self.end, 2),
            "text": self.text,
            "avg_logprob": round(self.avg_logprob, 3),
            "no_speech_prob": round(self.no_speech_prob, 3),
        }
        if self.words is not None:
            record["words"] = [word.as_dict() for word in self.words]
        return record


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one message, by which model, on what.

    `degraded` is the reason why a CPU did the work that a GPU should have done, where that is so.
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

    def as_dict(self) -> dict[str, Any]:
        """Return the transcript as it stands in the job record."""
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
        if self.degraded:
            record |= {"degraded": True, "degraded_reason": self.degraded}
        return record
