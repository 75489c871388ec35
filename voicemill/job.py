"""What a client reads of a job: the record with its results, and its events, as frozen values.

`as_dict` gives the JSON that the command line, the HTTP API and webhooks show. A record that another version wrote may
have more fields, which are ignored, or fewer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from voicemill.errors import ErrorCode, JobError
from voicemill.lifecycle import ENDED, STAGES, Lane
from voicemill.options import TABLE, Options
from voicemill.transcript import Transcript

SPENT = ("model", "usage", "latency", "tries", "cost_usd")  # what an enrichment says beside the fields of its schema

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class StageTimes:
    """When a stage received, began and ended a job (Unix seconds), how often it began, and which process did it."""

    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    worker: str | None = None  # host:pid
    next_retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """What decoding found out about a recording. Levels are in dB below full scale."""

    duration: float | None = None  # seconds of the decoded audio
    codec: str | None = None  # FFmpeg's name
    container: str | None = None  # FFmpeg's names, separated by commas
    channels: int | None = None
    channel_used: int | None = None  # None: all of them, mixed
    sample_rate: int | None = None  # Hz, of the source
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    dc_offset: float | None = None  # share of full scale
    clipped: bool = False
    silent: bool = False
    source_bytes: int | None = None
    sha256: str | None = None  # of the source
    warnings: tuple[str, ...] = ()
    duplicate_of: str | None = None  # id of the job whose transcript was reused

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Audio:
        """Return the description that a job's record keeps."""
        return _build(cls, {**record, "warnings": tuple(record.get("warnings", ()))})

    def as_dict(self) -> dict[str, Any]:
        """Return the description as a job's record keeps it."""
        record = asdict(self) | {"warnings": list(self.warnings)}
        if self.duplicate_of is None:
            del record["duplicate_of"]
        return record


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request to a language model consumed, in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Enrichment:
    """The structured summary of a transcript: the `fields` of its schema, and what it cost."""

    fields: Mapping[str, Any]
    model: str
    usage: Usage = Usage()
    latency: float = 0.0  # seconds spent waiting for the provider
    tries: int = 0  # requests
    cost_usd: float | None = None  # estimate; None: no price is known

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Enrichment:
        """Return the enrichment that a job's record keeps."""
        return cls(
            fields={name: value for name, value in record.items() if name not in SPENT},
            model=record.get("model", ""),
            usage=_build(Usage, record.get("usage") or {}),
            latency=record.get("latency", 0.0),
            tries=record.get("tries", 0),
            cost_usd=record.get("cost_usd"),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the enrichment as a job's record keeps it."""
        return {**self.fields, **{name: getattr(self, name) for name in SPENT}, "usage": asdict(self.usage)}

    @property
    def title(self) -> str | None:
        """The title, if the schema has one."""
        return self._text("title")

    @property
    def summary(self) -> str | None:
        """The summary, if the schema has one."""
        return self._text("summary")

    def _text(self, name: str) -> str | None:
        value = self.fields.get(name)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job, its enrichment or a delivery failed. `code` is a value of `ErrorCode`, or one of a newer version."""

    code: str
    message: str
    retryable: bool = False
    remedy: str = ""
    stage: str | None = None  # where the job failed
    at: float | None = None  # Unix seconds
    spent: Mapping[str, Any] = field(default_factory=dict)  # what a failed enrichment cost: the names of SPENT

    @classmethod
    def of(cls, error: JobError, *, stage: str | None = None, at: float | None = None) -> Failure:
        """Return the failure that an error is."""
        return cls(error.code, error.message, error.code.retryable, error.code.remedy, stage, at)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Failure:
        """Return the failure that a job's record keeps."""
        spent = {name: record[name] for name in SPENT if name in record}
        return _build(cls, {"code": ErrorCode.INTERNAL, "message": "", **record, "spent": spent})

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as a job's record keeps it."""
        record: dict[str, Any] = {
            "code": str(self.code),
            "message": self.message,
            "retryable": self.retryable,
            "remedy": self.remedy,
        }
        more = {"stage": self.stage, "at": self.at}
        return record | {name: value for name, value in more.items() if value is not None} | dict(self.spent)


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How far a job's webhooks are. Events are named like the status that they notify of; times are Unix seconds."""

    receiver: str  # scheme://host:port
    pending: tuple[str, ...] = ()
    attempts: int = 0  # at the first pending event
    delivered: str | None = None  # the last event that was
    last_at: float | None = None
    next_at: float | None = None
    delivered_at: float | None = None
    last_status: int | None = None  # of HTTP
    last_error: Failure | None = None
    stopped: Failure | None = None  # why nothing more is delivered

    def as_dict(self) -> dict[str, Any]:
        """Return the deliveries as JSON has them."""
        errors = {name: getattr(self, name) for name in ("last_error", "stopped")}
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in errors}
        plain["pending"] = list(self.pending)
        return plain | {name: None if error is None else error.as_dict() for name, error in errors.items()}


@dataclass(frozen=True, slots=True)
class Job:
    """A job's record, as it was when it was read."""

    id: str
    status: str  # one of `lifecycle.STATUSES`
    created_at: float  # Unix seconds
    finished_at: float | None
    source: str  # without credentials and query
    options: Options  # without `metadata`; the callback_url without credentials and query
    stages: Mapping[str, StageTimes]
    metadata: Any = None  # the sender's own
    owner: str | None = None  # tenant
    lane: str = Lane.INTERACTIVE
    rerun_of: str | None = None  # id of the job that this one repeats with other options
    edited_at: float | None = None  # Unix seconds; when the transcript was last edited by hand
    audio: Audio | None = None
    transcript: Transcript | None = None
    enrichment: Enrichment | None = None
    enrichment_skipped: str | None = None  # why no enrichment was asked for
    enrichment_error: Failure | None = None
    error: Failure | None = None
    redecodes: int = 0  # how often the audio expired before its turn and was decoded again
    webhook: Deliveries | None = None

    @property
    def ended(self) -> bool:
        """Whether the job is done, failed or cancelled."""
        return self.status in ENDED

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        options = asdict(self.options)
        del options["metadata"]
        record: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        record |= {"options": options, "stages": {stage: asdict(self.stages[stage]) for stage in STAGES}}
        for name in ("audio", "transcript", "enrichment", "enrichment_error", "error", "webhook"):
            value = record[name]
            record[name] = None if value is None else value.as_dict()
        return record


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job: it entered a status, or a stage made progress."""

    at: float  # Unix seconds
    status: str
    detail: Mapping[str, Any] = field(default_factory=dict)  # such as {"progress": {"done": 3, "total": 12}}

    @classmethod
    def from_json(cls, text: bytes | str) -> Event:
        """Return the event that a stream of events keeps."""
        return _build(cls, json.loads(text))


def stored_options(document: Mapping[str, Any]) -> Options:
    """Return the options that a record keeps; those of another version are ignored."""
    return Options(**{name: value for name, value in document.items() if name in TABLE})


def _build(kind: type[Value], record: Mapping[str, Any]) -> Value:
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # it is a dataclass
    return kind(**{name: value for name, value in record.items() if name in known})
