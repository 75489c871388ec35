"""What the templates show of a job, prepared before they are rendered: names, openings, times."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from voicemill import Job
from voicemill.lifecycle import ENDED, LAST, STAGES
from voicemill.store.jobs import UPLOAD, Jobs, masked
from web.problems import CODES

LISTED = 30  # jobs of the list
OPENING = 160  # characters of a transcript that the list shows
LARGEST = 256 * 1024  # bytes of a transcript above which it is not read for its opening
DOUBTFUL = 0.5  # probability below which a word is marked as doubtful
# Fields of a summary that the page shows in a place of their own, if they are texts or lists.
TEXTS = ("title", "summary", "sentiment", "urgency", "cleaned_text")
LISTS = ("topics", "people", "places", "action_items")
HIDDEN = ("language",)  # of a summary; the transcript's is shown


@dataclass(frozen=True, slots=True)
class Row:
    """A job in the list of jobs."""

    id: str
    status: str
    name: str
    opening: str  # the first characters of its transcript
    duration: float | None  # seconds of audio
    created_at: float  # Unix seconds
    took: float | None  # seconds from its arrival to its end
    error: str | None  # code
    incomplete: bool  # done, but without the requested summary

    @property
    def ended(self) -> bool:
        """Whether its work is over."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Span:
    """A stage's `wait` or `work` in the bar of a job's times: from `start` on, in seconds."""

    stage: str
    kind: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """How a job's time was spent, from its arrival to its end or until now."""

    total: float  # seconds
    spans: tuple[Span, ...]

    def share(self, seconds: float) -> float:
        """Return the share of the bar that these seconds take, in percent."""
        return round(100 * seconds / self.total, 3) if self.total else 0.0


def recent(jobs: Jobs) -> list[Row]:
    """Return the newest jobs, the newest first."""
    ids = jobs.ids(LISTED)
    openings = jobs.openings(ids, OPENING, largest=LARGEST)
    rows = zip(jobs.outlines(ids), openings, strict=True)
    return [_row(job, opening) for job, opening in rows if job is not None]


def _row(job: Job, opening: str) -> Row:
    return Row(
        id=job.id,
        status=job.status,
        name=title_of(job),
        opening=opening,
        duration=job.audio.duration if job.audio else None,
        created_at=job.created_at,
        took=None if job.finished_at is None else job.finished_at - job.created_at,
        error=job.error.code if job.error else None,
        incomplete=job.enrichment_error is not None,
    )


def name_of(job_id: str, source: str, metadata: Any) -> str:
    """Return what people call a message: the name of its file if it is known, otherwise the beginning of its id."""
    if isinstance(metadata, dict) and isinstance(metadata.get("filename"), str) and metadata["filename"].strip():
        return str(metadata["filename"])[:200]
    shown = masked(source)
    if source and not source.startswith(UPLOAD) and not shown.startswith("data:"):
        path = urlsplit(shown).path if "://" in shown else shown
        if name := unquote(path).rstrip("/").rpartition("/")[2]:
            return name[:200]
    return job_id[:8]


def stem(name: str) -> str:
    """Return the name of a downloaded transcript without its suffix: letters and digits, with dashes for all else."""
    base = name.rpartition("/")[2]
    bare = base.rpartition(".")[0] or base
    return re.sub(r"[^\w-]+", "-", bare).strip("-")[:60] or "transcript"


def names(jobs: Jobs, ids: Sequence[str]) -> dict[str, str]:
    """Return what people call the messages of these jobs; the record of some may be gone."""
    return {
        job_id: job_id[:8] if job is None else name_of(job_id, job.source, job.metadata)
        for job_id, job in zip(ids, jobs.outlines(ids), strict=True)
    }


def title_of(job: Job) -> str:
    """Return the heading of a job's page: its summary's title, or its name."""
    title = (job.enrichment.title if job.enrichment else None) or ""
    return title.strip()[:200] or name_of(job.id, job.source, job.metadata)


def extras(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a summary that have no place of their own on the page: an operator's schema may have any."""
    for name, value in fields.items():
        if name == "custom" and isinstance(value, list):
            for field in value:
                if isinstance(field, dict) and "name" in field:
                    yield str(field["name"]), field.get("value")
        elif name not in HIDDEN and not _has_its_place(name, value) and value not in (None, "", [], {}):
            yield name, value


def _has_its_place(name: str, value: Any) -> bool:
    return (name in TEXTS and isinstance(value, str)) or (name in LISTS and isinstance(value, list))


def named(fields: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a field of a summary if it has the type that its place on the page shows, otherwise None."""
    value = fields.get(name)
    return value if isinstance(value, kind) else None


def timeline(job: Job, now: float | None = None) -> Timeline:
    """Return how a job's time was spent."""
    end = job.finished_at or now or time.time()
    spans = []
    for stage in STAGES:
        at = job.stages[stage]
        if at.queued_at is None or (job.ended and at.started_at is None):
            continue
        started = at.started_at if at.started_at is not None else end
        spans.append(Span(stage, "wait", at.queued_at - job.created_at, max(0.0, started - at.queued_at)))
        if at.started_at is not None:
            finished = at.finished_at if at.finished_at is not None else end
            spans.append(Span(stage, "work", at.started_at - job.created_at, max(0.0, finished - at.started_at)))
    return Timeline(max(0.0, end - job.created_at), tuple(spans))


def step(job: Job, stage: str) -> str:
    """Return the state of a stage of a job: `ahead`, `waiting`, `working`, `done`, `failed` or `skipped`."""
    at = job.stages[stage]
    if job.error is not None and job.error.stage == stage:
        return "failed"
    if at.finished_at is not None:
        skipped = stage == LAST and (job.enrichment_skipped or job.enrichment_error)
        return "skipped" if skipped else "done"
    if job.ended or (stage == LAST and not job.options.enrich):
        return "skipped"
    if at.started_at is not None:
        return "working"
    return "waiting" if at.queued_at is not None else "ahead"


def speed(job: Job) -> float | None:
    """Return how many seconds of audio were transcribed per second; None: it is unknown."""
    at, duration = job.stages["transcribe"], job.audio.duration if job.audio else None
    if at.started_at is None or at.finished_at is None or duration is None or not at.attempts:
        return None
    return duration / max(1e-3, at.finished_at - at.started_at)


def retryable(code: str) -> bool:
    """Return whether a retry without a change may help."""
    return code in CODES and CODES[code].retryable


def clock(seconds: float) -> str:
    """Return a time in a recording as players show it: `1:05`, or `1:01:05` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def length(seconds: float | None) -> str:
    """Return a length of time with the digits that matter: `40 ms`, `3.2 s`, `1 min 5 s`, `2 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def size(count: float | None) -> str:
    """Return a number of bytes in the unit that suits it."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
