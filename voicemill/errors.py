"""Why a job can fail: one table of codes, and the one exception that carries them through every stage."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Fault(Enum):
    """Whose fault an error usually is: the message's, the worker's own machine's, or that of something outside both."""

    MESSAGE = "message"
    WORKER = "worker"
    OUTSIDE = "outside"


MESSAGE, WORKER, OUTSIDE = Fault


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table: whether a retry can help, whose fault it is, and what the sender or operator can do."""

    retryable: bool
    fault: Fault
    remedy: str


CODES: dict[str, Code] = {
    # The request
    "invalid_options": Code(False, MESSAGE, "Correct the option named in the message and send again."),
    "invalid_settings": Code(False, WORKER, "Correct the environment variable named in the message."),
    "unsupported_schema": Code(False, WORKER, "The message was written by a newer Voicemill: upgrade the workers."),
    # The source
    "source_not_found": Code(
        False, MESSAGE, "Check the path or address, and that the decode workers see the same MEDIA_ROOT."
    ),
    "source_forbidden": Code(
        False, MESSAGE, "Place the file where the workers may read it (SOURCE_*, MEDIA_ROOT), or upload it."
    ),
    "source_unsupported": Code(
        False, MESSAGE, "Send a path, an https://, s3:// or data: address whose extra is installed."
    ),
    "source_unavailable": Code(
        True, OUTSIDE, "The source's server is down, slow or overloaded: it is tried again by itself."
    ),
    "source_untrusted": Code(False, OUTSIDE, "Mend the server's certificate, or name its authority in SSL_CERT_FILE."),
    "source_timeout": Code(True, OUTSIDE, "Raise FETCH_TIMEOUT, or serve the file faster."),
    "source_too_large": Code(False, MESSAGE, "Send a smaller file, or raise MAX_SOURCE_BYTES if the message names it."),
    "source_unreadable": Code(True, WORKER, "Check the file's permissions and the disk of the decode workers."),
    # The sound
    "empty_source": Code(False, MESSAGE, "The file has no bytes: send it again."),
    "no_audio_stream": Code(False, MESSAGE, "The file holds no sound: send one that does."),
    "undecodable": Code(False, MESSAGE, "FFmpeg cannot read the file: send it in another format."),
    "too_long": Code(False, MESSAGE, "Split the recording or raise MAX_DURATION."),
    "too_short": Code(False, MESSAGE, "Send a longer recording or lower MIN_DURATION."),
    "decode_timeout": Code(True, MESSAGE, "Raise DECODE_TIMEOUT or send a shorter recording."),
    "decode_crashed": Code(True, WORKER, "FFmpeg was killed: check the memory of the decode workers."),
    "disk_full": Code(True, WORKER, "Free space in the temporary folder of the decode workers."),
    # The handoff store
    "handoff_expired": Code(
        False, OUTSIDE, "The audio expired before its turn: raise HANDOFF_TTL or add transcribe workers."
    ),
    "handoff_full": Code(
        True, OUTSIDE, "The handoff store is full: add transcribe workers or raise MAX_HANDOFF_BYTES."
    ),
    "handoff_too_large": Code(
        False,
        MESSAGE,
        "Give Redis more memory or raise MAX_HANDOFF_BYTES, set HANDOFF_URL, or send a shorter recording.",
    ),
    "handoff_unavailable": Code(
        True, OUTSIDE, "Check that the workers reach the store of HANDOFF_URL and may write there."
    ),
    "handoff_unreadable": Code(True, WORKER, "Give every worker and backend the same HANDOFF_KEY and HANDOFF_URL."),
    # The model
    "gpu_unfit": Code(True, WORKER, "Run `python -m pipeline doctor --device cuda` on the worker's machine."),
    "transcribe_crashed": Code(False, MESSAGE, "The message killed the model's process twice: keep it and report it."),
    "transcribe_timeout": Code(True, MESSAGE, "Raise TRANSCRIBE_TIMEOUT, or give the worker a faster device."),
    "out_of_memory": Code(True, WORKER, "Use a smaller model or compute type."),
    # The worker
    "worker_unfit": Code(True, WORKER, "Fix what the worker's log names under `Worker paused`; it resumes by itself."),
    # The queue
    "lost": Code(True, OUTSIDE, "The job's message vanished from Redis: check its maxmemory-policy, then send again."),
    "redis_unavailable": Code(
        True, OUTSIDE, "Check REDIS_URL, its login and authority, and that Redis runs; then send again."
    ),
    "worker_stopped": Code(
        True, WORKER, "The worker was told to stop before the message's turn: another takes the job."
    ),
    "worker_killed": Code(False, MESSAGE, "The message killed its worker again and again: keep it and report it."),
    "system_full": Code(
        True, OUTSIDE, "Too much waits: send again later; add workers, or raise MAX_QUEUED, MAX_HANDOFF_BYTES."
    ),
    "internal": Code(True, MESSAGE, "A fault of Voicemill: report it with the worker's log."),
    # Enrichment: these end up in `enrichment_error`, never in `error`
    "enrich_invalid_key": Code(False, WORKER, "Check GEMINI_API_KEY."),
    "enrich_forbidden": Code(False, WORKER, "The key may not use this model: check its project and region."),
    "enrich_unknown_model": Code(False, WORKER, "Set GEMINI_MODEL to a model that the key may use."),
    "enrich_invalid_request": Code(False, MESSAGE, "Gemini refused the request: report it with the worker's log."),
    "enrich_rate_limited": Code(True, OUTSIDE, "Lower GEMINI_REQUESTS_PER_MINUTE or ask Google for a higher limit."),
    "enrich_quota_exhausted": Code(False, OUTSIDE, "The day's quota is used up: wait, or move to a paid plan."),
    "enrich_unavailable": Code(True, OUTSIDE, "Gemini is overloaded or out of reach: it is tried again by itself."),
    "enrich_timeout": Code(True, OUTSIDE, "Raise GEMINI_TIMEOUT."),
    "enrich_blocked": Code(False, MESSAGE, "Gemini's safety filter refused the transcript."),
    "enrich_recitation": Code(False, MESSAGE, "Gemini began to recite a text of others and broke off."),
    "enrich_truncated": Code(False, MESSAGE, "Raise GEMINI_MAX_OUTPUT_TOKENS."),
    "enrich_empty": Code(False, MESSAGE, "Gemini answered with nothing, twice: ask again with the `enrich` command."),
    "enrich_invalid_answer": Code(False, MESSAGE, "Gemini's answer did not fit the schema, also after one repair."),
    "enrich_gave_up": Code(
        False, OUTSIDE, "Gemini failed as often as ENRICH_TRIES allows: ask again with the `enrich` command."
    ),
    "enrich_deadline": Code(
        False, OUTSIDE, "Enrichment took longer than ENRICH_DEADLINE; ask again with the `enrich` command."
    ),
    "enrich_no_transcript": Code(False, MESSAGE, "Name a job that is done and holds speech."),
    "enrich_internal": Code(True, MESSAGE, "A fault of Voicemill: report it with the worker's log."),
    # Webhooks: these end up in the record's `webhook`, never in `error`
    "webhook_forbidden": Code(
        False, MESSAGE, "Name a public https:// address, or loosen WEBHOOK_ALLOW_*; then `dead retry` the job."
    ),
    "webhook_unreachable": Code(
        True, OUTSIDE, "Check the receiver's name, network and firewall; deliveries are tried again."
    ),
    "webhook_timeout": Code(True, OUTSIDE, "Let the receiver answer first and work later, or raise WEBHOOK_TIMEOUT."),
    "webhook_untrusted": Code(
        True, OUTSIDE, "Mend the receiver's certificate, or name its authority in SSL_CERT_FILE."
    ),
    "webhook_refused": Code(True, OUTSIDE, "Look into the receiver's log; deliveries are tried again."),
    "webhook_redirected": Code(True, OUTSIDE, "Name the address that the receiver redirects to."),
    "webhook_unsigned": Code(True, WORKER, "Set WEBHOOK_SECRET: `python -m pipeline webhook secret` makes one."),
    "webhook_gone": Code(False, OUTSIDE, "The receiver wants no more of this job; `dead retry` begins anew."),
    "webhook_gave_up": Code(False, OUTSIDE, "Mend the receiver, try `webhook test URL`, then `dead retry` the job."),
}


class JobError(Exception):
    """A job cannot go on. `message` says what happened to this job; the table says what to do about its kind.

    `retry_after` is the delay that the other side asked for, in seconds, where it named one.
    """

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same work may succeed later."""
        return CODES[self.code].retryable

    @property
    def fault(self) -> Fault:
        """Whose fault errors of this code usually are."""
        return CODES[self.code].fault

    def __reduce__(self) -> tuple[Any, ...]:  # it crosses the border of the model's process
        return type(self), (self.code, self.message), {"retry_after": self.retry_after}
