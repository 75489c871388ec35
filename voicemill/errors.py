"""Why a job can fail: one enumeration of error codes, and the exceptions that carry them."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any, Self


class Fault(Enum):
    """Where the cause of an error usually lies: in the message, on the worker's machine, or outside both."""

    MESSAGE = "message"
    WORKER = "worker"
    OUTSIDE = "outside"


class ErrorCode(StrEnum):
    """One kind of failure: whether a retry can help, where the cause lies, and what the sender or operator can do."""

    retryable: bool
    fault: Fault
    remedy: str

    def __new__(cls, code: str, retryable: bool, fault: Fault, remedy: str) -> Self:  # noqa: D102
        member = str.__new__(cls, code)
        member._value_ = code
        member.retryable, member.fault, member.remedy = retryable, fault, remedy
        return member

    @classmethod
    def named(cls, code: str) -> ErrorCode | None:
        """Return the code of this name; None: there is none, as for one that a newer version wrote."""
        return next((each for each in cls if each == code), None)

    # The request
    INVALID_OPTIONS = (
        "invalid_options",
        False,
        Fault.MESSAGE,
        "Correct the option named in the message and send again.",
    )
    INVALID_SETTINGS = (
        "invalid_settings",
        False,
        Fault.WORKER,
        "Correct the environment variable named in the message.",
    )
    UNSUPPORTED_SCHEMA = (
        "unsupported_schema",
        False,
        Fault.WORKER,
        "The message was written by a newer version of Voicemill. Upgrade the workers.",
    )

    # The source
    SOURCE_NOT_FOUND = (
        "source_not_found",
        False,
        Fault.MESSAGE,
        "Check the path or URL, and that the decode workers use the same MEDIA_ROOT.",
    )
    SOURCE_FORBIDDEN = (
        "source_forbidden",
        False,
        Fault.MESSAGE,
        "Move the file to a place the workers may read (SOURCE_*, MEDIA_ROOT), or upload it.",
    )
    SOURCE_UNSUPPORTED = (
        "source_unsupported",
        False,
        Fault.MESSAGE,
        "Send a path or an https://, s3:// or data: URL whose extra is installed.",
    )
    SOURCE_UNAVAILABLE = (
        "source_unavailable",
        True,
        Fault.OUTSIDE,
        "The source's server is down, slow or overloaded. Voicemill retries by itself.",
    )
    SOURCE_UNTRUSTED = (
        "source_untrusted",
        False,
        Fault.OUTSIDE,
        "Fix the server's certificate, or name its CA in SSL_CERT_FILE.",
    )
    SOURCE_TIMEOUT = ("source_timeout", True, Fault.OUTSIDE, "Raise FETCH_TIMEOUT, or serve the file faster.")
    SOURCE_TOO_LARGE = (
        "source_too_large",
        False,
        Fault.MESSAGE,
        "Send a smaller file, or raise MAX_SOURCE_BYTES if the message names it.",
    )
    SOURCE_UNREADABLE = (
        "source_unreadable",
        True,
        Fault.WORKER,
        "Check the file's permissions and the disk of the decode workers.",
    )

    # The audio
    EMPTY_SOURCE = ("empty_source", False, Fault.MESSAGE, "The file is empty. Send it again.")
    NO_AUDIO_STREAM = ("no_audio_stream", False, Fault.MESSAGE, "The file has no audio stream. Send one that has.")
    UNDECODABLE = ("undecodable", False, Fault.MESSAGE, "FFmpeg cannot read the file. Send it in another format.")
    TOO_LONG = ("too_long", False, Fault.MESSAGE, "Split the recording or raise MAX_DURATION.")
    TOO_SHORT = ("too_short", False, Fault.MESSAGE, "Send a longer recording or lower MIN_DURATION.")
    DECODE_TIMEOUT = ("decode_timeout", True, Fault.MESSAGE, "Raise DECODE_TIMEOUT or send a shorter recording.")
    DECODE_CRASHED = (
        "decode_crashed",
        True,
        Fault.WORKER,
        "FFmpeg was killed. Check the memory of the decode workers.",
    )
    DISK_FULL = ("disk_full", True, Fault.WORKER, "Free space in the temporary folder of the decode workers.")

    # The handoff store
    HANDOFF_EXPIRED = (
        "handoff_expired",
        False,
        Fault.OUTSIDE,
        "The audio expired before it was transcribed. Raise HANDOFF_TTL or add transcribe workers.",
    )
    HANDOFF_FULL = (
        "handoff_full",
        True,
        Fault.OUTSIDE,
        "The handoff store is full. Add transcribe workers or raise MAX_HANDOFF_BYTES.",
    )
    HANDOFF_TOO_LARGE = (
        "handoff_too_large",
        False,
        Fault.MESSAGE,
        "Give Redis more memory or raise MAX_HANDOFF_BYTES, set HANDOFF_URL, or send a shorter recording.",
    )
    HANDOFF_UNAVAILABLE = (
        "handoff_unavailable",
        True,
        Fault.OUTSIDE,
        "Check that the workers can reach and write to the store of HANDOFF_URL.",
    )
    HANDOFF_UNREADABLE = (
        "handoff_unreadable",
        True,
        Fault.WORKER,
        "Give every worker and backend the same HANDOFF_KEY and HANDOFF_URL.",
    )

    # The model
    GPU_UNFIT = ("gpu_unfit", True, Fault.WORKER, "Run `voicemill doctor --device cuda` on the worker's machine.")
    TRANSCRIBE_CRASHED = (
        "transcribe_crashed",
        False,
        Fault.MESSAGE,
        "The message killed the model's process twice. Keep it and report a bug.",
    )
    TRANSCRIBE_TIMEOUT = (
        "transcribe_timeout",
        True,
        Fault.MESSAGE,
        "Raise TRANSCRIBE_TIMEOUT, or give the worker a faster device.",
    )
    OUT_OF_MEMORY = ("out_of_memory", True, Fault.WORKER, "Use a smaller model or compute type.")

    # The worker
    WORKER_UNFIT = (
        "worker_unfit",
        True,
        Fault.WORKER,
        "Fix what the worker's log names under `Worker paused`; it resumes by itself.",
    )

    # The queue
    LOST = (
        "lost",
        True,
        Fault.OUTSIDE,
        "The job's message vanished from Redis. Check its maxmemory-policy, then send again.",
    )
    REDIS_UNAVAILABLE = (
        "redis_unavailable",
        True,
        Fault.OUTSIDE,
        "Check REDIS_URL, its credentials and CA, and that Redis is running. Then send again.",
    )
    WORKER_STOPPED = (
        "worker_stopped",
        True,
        Fault.WORKER,
        "The worker was stopped before the message was processed. Another worker takes the job.",
    )
    WORKER_KILLED = (
        "worker_killed",
        False,
        Fault.MESSAGE,
        "The message killed its worker repeatedly. Keep it and report a bug.",
    )
    SYSTEM_FULL = (
        "system_full",
        True,
        Fault.OUTSIDE,
        "Too many jobs are waiting. Send again later, add workers, or raise MAX_QUEUED or MAX_HANDOFF_BYTES.",
    )
    INTERNAL = ("internal", True, Fault.MESSAGE, "This is a bug in Voicemill. Report it with the worker's log.")

    # Enrichment: stored in `enrichment_error`, never in `error`
    ENRICH_INVALID_KEY = ("enrich_invalid_key", False, Fault.WORKER, "Check GEMINI_API_KEY.")
    ENRICH_FORBIDDEN = (
        "enrich_forbidden",
        False,
        Fault.WORKER,
        "The key may not use this model. Check its project and region.",
    )
    ENRICH_UNKNOWN_MODEL = (
        "enrich_unknown_model",
        False,
        Fault.WORKER,
        "Set GEMINI_MODEL to a model that the key may use.",
    )
    ENRICH_INVALID_REQUEST = (
        "enrich_invalid_request",
        False,
        Fault.MESSAGE,
        "The provider rejected the request. Report it with the worker's log.",
    )
    ENRICH_RATE_LIMITED = (
        "enrich_rate_limited",
        True,
        Fault.OUTSIDE,
        "Lower GEMINI_REQUESTS_PER_MINUTE or ask Google for a higher limit.",
    )
    ENRICH_QUOTA_EXHAUSTED = (
        "enrich_quota_exhausted",
        False,
        Fault.OUTSIDE,
        "The daily quota is used up. Wait, or move to a paid plan.",
    )
    ENRICH_UNAVAILABLE = (
        "enrich_unavailable",
        True,
        Fault.OUTSIDE,
        "Gemini is overloaded or unreachable. Voicemill retries by itself.",
    )
    ENRICH_TIMEOUT = ("enrich_timeout", True, Fault.OUTSIDE, "Raise GEMINI_TIMEOUT.")
    ENRICH_BLOCKED = ("enrich_blocked", False, Fault.MESSAGE, "Gemini's safety filter blocked the transcript.")
    ENRICH_RECITATION = (
        "enrich_recitation",
        False,
        Fault.MESSAGE,
        "Gemini stopped because its answer recited existing text.",
    )
    ENRICH_TRUNCATED = ("enrich_truncated", False, Fault.MESSAGE, "Raise GEMINI_MAX_OUTPUT_TOKENS.")
    ENRICH_EMPTY = (
        "enrich_empty",
        False,
        Fault.MESSAGE,
        "Gemini returned an empty answer twice. Try again with the `enrich` command.",
    )
    ENRICH_INVALID_ANSWER = (
        "enrich_invalid_answer",
        False,
        Fault.MESSAGE,
        "Gemini's answer did not match the schema, even after one repair.",
    )
    ENRICH_GAVE_UP = (
        "enrich_gave_up",
        False,
        Fault.OUTSIDE,
        "Gemini failed ENRICH_TRIES times. Try again with the `enrich` command.",
    )
    ENRICH_DEADLINE = (
        "enrich_deadline",
        False,
        Fault.OUTSIDE,
        "Enrichment took longer than ENRICH_DEADLINE. Try again with the `enrich` command.",
    )
    ENRICH_NO_TRANSCRIPT = (
        "enrich_no_transcript",
        False,
        Fault.MESSAGE,
        "Name a finished job whose recording has speech.",
    )
    ENRICH_INTERNAL = (
        "enrich_internal",
        True,
        Fault.MESSAGE,
        "This is a bug in Voicemill. Report it with the worker's log.",
    )

    # Webhooks: stored in the record's `webhook`, never in `error`
    WEBHOOK_FORBIDDEN = (
        "webhook_forbidden",
        False,
        Fault.MESSAGE,
        "Use a public https:// URL, or relax WEBHOOK_ALLOW_*; then run `dead retry` for the job.",
    )
    WEBHOOK_UNREACHABLE = (
        "webhook_unreachable",
        True,
        Fault.OUTSIDE,
        "Check the receiver's name, network and firewall. Voicemill retries deliveries.",
    )
    WEBHOOK_TIMEOUT = (
        "webhook_timeout",
        True,
        Fault.OUTSIDE,
        "Let the receiver answer first and do its work later, or raise WEBHOOK_TIMEOUT.",
    )
    WEBHOOK_UNTRUSTED = (
        "webhook_untrusted",
        True,
        Fault.OUTSIDE,
        "Fix the receiver's certificate, or name its CA in SSL_CERT_FILE.",
    )
    WEBHOOK_REFUSED = (
        "webhook_refused",
        True,
        Fault.OUTSIDE,
        "Check the receiver's log. Voicemill retries deliveries.",
    )
    WEBHOOK_REDIRECTED = ("webhook_redirected", True, Fault.OUTSIDE, "Use the URL that the receiver redirects to.")
    WEBHOOK_UNSIGNED = (
        "webhook_unsigned",
        True,
        Fault.WORKER,
        "Set WEBHOOK_SECRET. `voicemill webhook secret` generates one.",
    )
    WEBHOOK_GONE = (
        "webhook_gone",
        False,
        Fault.OUTSIDE,
        "The receiver wants no more events of this job. `dead retry` starts again.",
    )
    WEBHOOK_GAVE_UP = (
        "webhook_gave_up",
        False,
        Fault.OUTSIDE,
        "Fix the receiver, check it with `webhook test URL`, then run `dead retry` for the job.",
    )


class JobError(Exception):
    """A job cannot continue. `message` says what happened to this job; the code says what to do about its kind.

    `retry_after` is the delay that the other side asked for (seconds), if it named one.
    """

    def __init__(self, code: ErrorCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:  # it crosses the border of the model's process
        return type(self), (self.code, self.message), {"retry_after": self.retry_after}

    @property
    def advice(self) -> str:
        """What happened and what to do about it, in one line."""
        return f"{self}. {self.code.remedy}"


class UnknownJob(LookupError):
    """No job has this id: it was never sent to this Redis, or its record has expired or was deleted."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r} in this Redis: never sent, expired or deleted")


class Refused(JobError):
    """A message was not sent: the source, an option or the state of the system forbids it. Its text says what to do."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(code, message, retry_after=retry_after)
        self.args = (f"{self}. {code.remedy}",)

    @property
    def advice(self) -> str:
        """The text itself, which names the remedy."""
        return str(self)
