"""What enrichment remembers of a job between attempts: finished parts of a long transcript, and the time it has left.

The parts are kept beside the job's account (voicemill/store/spending.py), each under the digest of everything that it
was made of.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from voicemill.errors import ErrorCode, JobError
from voicemill.lifecycle import Status
from voicemill.store import Store, keys, scripts
from voicemill.store.jobs import DELETED
from voicemill.store.spending import FORGIVEN

UNWANTED = (Status.CANCELLED, DELETED)  # statuses of jobs whose summary nobody waits for

_KEEP = scripts.load(Path(__file__).with_name("keep.lua"))
_FORGIVE = scripts.load(Path(__file__).with_name("forgive.lua"))


class Memory:
    """The memory of the jobs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def forgive(self, job_ids: Sequence[str]) -> None:
        """Take one failure from each job's account, once: it was not the job's, and more would let it try for ever."""
        _FORGIVE.run(self._store.redis, [keys.spending(job_id) for job_id in job_ids], FORGIVEN)

    def unwanted(self, job_id: str) -> bool:
        """Return whether the job was deleted or cancelled, so that no more is to be paid for it."""
        status = cast("bytes | None", self._store.redis.hget(keys.record(job_id), "status"))
        return status is not None and status.decode() in UNWANTED

    def stored(self, job_id: str, name: str) -> Any:
        """Return a piece of work that an earlier attempt finished; None: there is none."""
        value = cast("bytes | None", self._store.redis.hget(keys.spending(job_id), f"part:{name}"))
        return None if value is None else json.loads(value)

    def keep(self, job_id: str, name: str, value: Any, ttl: float) -> None:
        """Keep a finished piece of work for `ttl` seconds; of a job that was deleted meanwhile no trace is left."""
        part = json.dumps(value, ensure_ascii=False)
        touched = [keys.spending(job_id), keys.record(job_id)]
        _KEEP.run(self._store.redis, touched, f"part:{name}", part, int(ttl * 1000), *UNWANTED)

    def drop(self, job_id: str, name: str) -> None:
        """Forget a stored piece of work."""
        self._store.redis.hdel(keys.spending(job_id), f"part:{name}")


def overdue(queued_at: float | None, deadline: float, more: float = 0.0) -> JobError | None:
    """Return the error of a job whose summary comes too late, now or `more` seconds later; None: there is time.

    Args:
        queued_at: when the job was queued for enrichment (Unix seconds); None: only now.
        deadline: how long it may take (seconds).
        more: seconds that it will at least take from now on.
    """
    now = time.time()
    if now + more <= (now if queued_at is None else queued_at) + deadline:
        return None
    return JobError(ErrorCode.ENRICH_DEADLINE, f"not done within {deadline:g} s")


def digest(*made_of: Any) -> str:
    """Return the name of a piece of work that is made of these."""
    # All ASCII: metadata may hold a lone surrogate, which UTF-8 cannot encode.
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:32]
