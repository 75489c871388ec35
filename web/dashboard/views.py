"""What the templates show of a job, worked out before they are rendered: names, spoken words, where seconds went."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from voicemill.errors import ErrorCode
from voicemill.job import Job
from voicemill.lifecycle import ENDED, STAGES
from voicemill.store import keys
from voicemill.store.audio import UPLOAD
from voicemill.store.jobs import masked, parse_status

LISTED = 30  # jobs of the list
OPENING = 160  # characters of a transcript that stand for it in the list
LARGEST = 256 * 1024  # bytes of a transcript that is opened only to quote its beginning
DOUBTFUL = 0.5  # probability below which a word is marked as doubtful
# Fields of a summary that the page has a place of its own for, where they are texts and lists.
TEXTS = ("title", "summary", "sentiment", "urgency", "cleaned_text")
LISTS = ("topics", "people", "places", "action_items")
ACCOUNT = ("model", "usage", "latency", "tries", "cost_usd", "language")  # of a summary, told in small print or not

_ROW = ("status", "created_at", "finished_at", "source", "options", "audio", "enrichment", "error", "enrichment_error")


@dataclass(frozen=True, slots=True)
class Row:
    """A job in the list of jobs."""

    id: str
    status: str
    name: str
    opening: str  # how its transcript begins, or what came of it
    duration: float | None  # seconds
    created_at: float  # Unix seconds
    took: float | None  # seconds from its arrival to its end
    error: str | None  # code
    incomplete: bool  # done, but without the summary that was asked for

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the bar of where the seconds went: a stage's `wait` or `work`, from `start` on, in seconds."""

    stage: str
    kind: str
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where a job's seconds went, from its arrival to its end or until now."""

    total: float  # seconds
    spans: tuple[Span, ...]

    def share(self, seconds: float) -> float:
        """Return what part of the bar these seconds take, in percent."""
        return round(100 * seconds / self.total, 3) if self.total else 0.0


def recent() -> list[Row]:
    """Return the jobs that have not ended, and after them those that ended last, the newest first of each."""
    client = store.redis
    with client.pipeline(transaction=False) as pipe:
        pipe.zrevrange(keys.UNFINISHED, 0, LISTED - 1)
        pipe.zrevrange(store.jobs.ENDED_KEY, 0, LISTED - 1)
        unfinished, ended = cast("list[list[bytes]]", pipe.execute())
    ids = [name.decode() for name in (unfinished + ended)[:LISTED]]
    with client.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.record(job_id), _ROW)
            pipe.hstrlen(keys.record(job_id), "transcript")
        found = pipe.execute()
    texts = _openings([job_id for job_id, size in zip(ids, found[1::2], strict=True) if 0 < size < LARGEST])
    rows = [_row(job_id, fields, texts.get(job_id, "")) for job_id, fields in zip(ids, found[::2], strict=True)]
    return [row for row in rows if row is not None]


def _openings(ids: list[str]) -> dict[str, str]:
    with store.redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hget(keys.record(job_id), "transcript")
        found = pipe.execute()
    return {
        job_id: json.loads(value)["text"][:OPENING]
        for job_id, value in zip(ids, found, strict=True)
        if value is not None
    }


def _row(job_id: str, values: list[bytes | None], opening: str) -> Row | None:
    fields = dict(zip(_ROW, values, strict=True))
    status = parse_status(fields["status"])
    if status is None:
        return None

    def document(name: str) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(fields[name] or "null") or {})

    created_at = float(fields["created_at"] or 0)
    finished_at = fields["finished_at"]
    options = document("options")
    source = (fields["source"] or b"").decode()
    return Row(
        id=job_id,
        status=status,
        name=_title(document("enrichment")) or name_of(job_id, source, options.get("metadata")),
        opening=opening,
        duration=document("audio").get("duration"),
        created_at=created_at,
        took=None if finished_at is None else float(finished_at) - created_at,
        error=document("error").get("code"),
        incomplete=bool(document("enrichment_error")),
    )


def name_of(job_id: str, source: str, metadata: Any) -> str:
    """Return what people call a message: its file's name where one is known, else the beginning of its id."""
    if isinstance(metadata, dict) and isinstance(metadata.get("filename"), str) and metadata["filename"].strip():
        return str(metadata["filename"])[:200]
    masked = masked(source)
    if source and not source.startswith(UPLOAD) and not masked.startswith("data:"):
        path = urlsplit(masked).path if "://" in masked else masked
        if name := unquote(path).rstrip("/").rpartition("/")[2]:
            return name[:200]
    return job_id[:8]


def stem(name: str) -> str:
    """Return what a downloaded transcript is called, without its ending: letters, digits, and dashes for the rest."""
    base = name.rpartition("/")[2]
    bare = base.rpartition(".")[0] or base
    return re.sub(r"[^\w-]+", "-", bare).strip("-")[:60] or "transcript"


def names(ids: list[str]) -> dict[str, str]:
    """Return what people call the messages of these jobs."""
    with store.redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.record(job_id), "source", "options")
        found = cast("list[list[bytes | None]]", pipe.execute())
    return {
        job_id: name_of(job_id, (source or b"").decode(), json.loads(options or "{}").get("metadata"))
        for job_id, (source, options) in zip(ids, found, strict=True)
    }


def title_of(job: Job) -> str:
    """Return the heading of a job's page: its summary's title, or its name."""
    return _title(job.enrichment or {}) or name_of(job.id, job.source, job.metadata)


def _title(enrichment: dict[str, Any]) -> str:
    title = enrichment.get("title")
    return title.strip()[:200] if isinstance(title, str) else ""


def extras(enrichment: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a summary that the page has no place of its own for: an operator's schema may have any."""
    for name, value in enrichment.items():
        if name == "custom" and isinstance(value, list):
            for field in value:
                if isinstance(field, dict) and "name" in field:
                    yield str(field["name"]), field.get("value")
        elif name not in ACCOUNT and not _has_its_place(name, value) and value not in (None, "", [], {}):
            yield name, value


def _has_its_place(name: str, value: Any) -> bool:
    return (name in TEXTS and isinstance(value, str)) or (name in LISTS and isinstance(value, list))


def named(enrichment: dict[str, Any], name: str, kind: type) -> Any:
    """Return a field of a summary where it has the type that the page knows to show, else None."""
    value = enrichment.get(name)
    return value if isinstance(value, kind) else None


def timeline(job: Job, now: float | None = None) -> Timeline:
    """Return where a job's seconds went."""
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
    """Return how far a job is with a stage: `ahead`, `waiting`, `working`, `done`, `failed` or `skipped`."""
    at = job.stages[stage]
    if job.error is not None and job.error.get("stage") == stage:
        return "failed"
    if at.finished_at is not None:
        skipped = stage == "enrich" and (job.enrichment_skipped or job.enrichment_error)
        return "skipped" if skipped else "done"
    if job.ended or (stage == "enrich" and not job.options.get("enrich", True)):
        return "skipped"
    if at.started_at is not None:
        return "working"
    return "waiting" if at.queued_at is not None else "ahead"


def speed(job: Job) -> float | None:
    """Return how many seconds of audio were transcribed in a second; None: it cannot be told."""
    at = job.stages["transcribe"]
    if at.started_at is None or at.finished_at is None or job.audio is None or not at.attempts:
        return None
    return float(job.audio["duration"]) / max(1e-3, at.finished_at - at.started_at)


def retryable(code: str) -> bool:
    """Tell whether trying again without a change may help."""
    return code in CODES and ErrorCode(code).retryable


def clock(seconds: float) -> str:
    """Return a time in a message as players show it: `1:05`, or `1:01:05` from an hour on."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def length(seconds: float | None) -> str:
    """Return a span of time in as many digits as matter: `40 ms`, `3.2 s`, `1 min 5 s`, `2 h 5 min`."""
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
    """Return a number of bytes for people."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
