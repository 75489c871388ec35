"""What a stage is: `run(job, context) -> Result`, without Dramatiq. The runner in actors/ does the rest.

A stage never writes the record: it returns what belongs there, and the runner stores it, notifies and queues the job
for the next stage in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from config.settings import Settings
from voicemill.errors import JobError
from voicemill.job import Job
from voicemill.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage may use while it works on a job."""

    store: Store
    settings: Settings
    progress: Callable[[int, int], None]  # publishes how many of a stage's pieces are done, of how many
    wanted: Callable[[], bool]  # whether the job still exists and has not ended; raises RedisError


@dataclass(frozen=True, slots=True)
class Result:
    """What a stage made of a job: JSON documents by the fields of its record.

    `through` is a later stage whose results are among them, `afterwards` is called once they are stored.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    through: str | None = None
    afterwards: Callable[[], None] | None = None


class RetryLater(Exception):
    """A stage asks for another attempt in `delay` seconds, however often it has been tried."""

    def __init__(self, error: JobError, delay: float) -> None:
        super().__init__(str(error))
        self.error, self.delay = error, delay


class Stage(Protocol):
    """The work of a stage."""

    def __call__(self, job: Job, context: Context) -> Result | None:
        """Do the work; None: the job has ended meanwhile.

        Raises:
            JobError: the work failed.
            RetryLater: it is to be tried again at a time of the stage's own choosing.
        """
