"""The life of a job, defined once: its stages, its statuses, which follows which, and where a job is restarted.

A stage is one row of `LINE`. Statuses, queues and allowed transitions are derived from it; the Lua scripts of the
store get them as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The status of a job."""

    QUEUED = "queued"
    DECODING = "decoding"
    DECODED = "decoded"
    TRANSCRIBING = "transcribing"
    TRANSCRIBED = "transcribed"
    ENRICHING = "enriching"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, and the status of a job that waits for it, that it works on, and that it has finished.

    `option` names the flag among a job's options without which the stage is skipped.
    """

    stage: str
    waiting: Status
    working: Status
    finished: Status
    option: str | None = None


LINE = (
    Step("decode", Status.QUEUED, Status.DECODING, Status.DECODED),
    Step("transcribe", Status.DECODED, Status.TRANSCRIBING, Status.TRANSCRIBED),
    Step("enrich", Status.TRANSCRIBED, Status.ENRICHING, Status.DONE, option="enrich"),
)

STEPS = {step.stage: step for step in LINE}
STAGES = tuple(STEPS)
FIRST, LAST = STAGES[0], STAGES[-1]
WORKING = {stage: step.working for stage, step in STEPS.items()}
PROGRESS = tuple(dict.fromkeys(status for step in LINE for status in (step.waiting, step.working)))  # in their order
ENDED = (Status.DONE, Status.FAILED, Status.CANCELLED)
STATUSES = (*PROGRESS, *ENDED)
NOTIFIED = (Status.TRANSCRIBED, *ENDED)  # the statuses of which webhooks and waiting clients are notified
UNTIL = (Status.DONE, Status.TRANSCRIBED)  # what a client can wait for
AWAITING_SUMMARY = (Status.TRANSCRIBED, Status.ENRICHING)
NEEDS_SOURCE = PROGRESS[: PROGRESS.index(Status.TRANSCRIBING) + 1]  # until then the job may have to be decoded again

WEBHOOK = "webhook"  # the queue of the deliveries, which are no stage
QUEUES = (*STAGES, WEBHOOK)  # one kind of worker each


class Lane(StrEnum):
    """How urgent a job is. Each lane has a queue in every stage."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


def queue_of(stage: str, lane: str = Lane.INTERACTIVE) -> str:
    """Return the name of the queue of a stage's lane; the interactive lane's is the stage's own name."""
    return stage if lane == Lane.INTERACTIVE else f"{stage}.{lane}"


def stage_of(queue: str) -> str:
    """Return the stage that a queue belongs to, also for a delay queue such as `decode.DQ`."""
    return queue.partition(".")[0]


def following(stage: str, options: object) -> str | None:
    """Return the next stage of a job with these options; None after its last."""
    for step in LINE[STAGES.index(stage) + 1 :]:
        if step.option is None or getattr(options, step.option):
            return step.stage
    return None


def up_to(status: Status) -> tuple[Status, ...]:
    """Return the statuses up to this one: a late twin of a message never takes a job back."""
    return PROGRESS[: PROGRESS.index(status) + 1]


def reached(status: str, until: str) -> bool:
    """Return whether a job in `status` has come as far as `until`: "transcribed", or "done" for any end.

    Raises:
        ValueError: `until` is neither of the two.
    """
    if until not in UNTIL:
        raise ValueError(f"until is {until!r}; use {' or '.join(repr(str(each)) for each in UNTIL)}")
    return status in ENDED or (until == Status.TRANSCRIBED and status in AWAITING_SUMMARY)
