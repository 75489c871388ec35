"""Every key in Redis, with its type and meaning. No other module of the client spells one.

Dramatiq's own keys are named here too: `<ns>:<queue>` is the list of waiting message ids, `.msgs` the hash of all
messages that are not done with, `.DQ` and `.DQ.msgs` the same for delayed ones, `.XQ` the sorted set of dead letters by
time of death (milliseconds) and `.XQ.msgs` the hash of them; `__acks__.<worker>.<queue>` is the set of messages that a
worker has taken, `__heartbeats__` the sorted set of Dramatiq's own heartbeats.
"""

from __future__ import annotations

from voicemill import address
from voicemill.errors import UnknownJob
from voicemill.options import is_text

NAMESPACE = address.NAMESPACE  # prefix of every key

# Jobs
UNFINISHED = f"{NAMESPACE}:jobs:unfinished"  # sorted set of job ids by the time of their last change (Unix seconds)
EXPIRING = f"{NAMESPACE}:jobs:expiring"  # sorted set of "<id> <owner>" of ended jobs, by when their records expire
INDEX = f"{NAMESPACE}:jobs:index"  # prefix of sorted sets of job ids by creation, see `index`
# Stream of job ids (`job`), about the last 1,000: an entry when a job gets its transcript, ends or is deleted.
ARRIVALS = f"{NAMESPACE}:jobs:arrivals"
COUNTS = f"{NAMESPACE}:jobs:counts"  # hash: how many jobs ended, ever, by status and `failed:<stage>:<code>`

# Audio: indexes of all entries, so that the size of the store is known without a scan
EXPIRIES = f"{NAMESPACE}:handoff:expiries"  # sorted set of the entries' keys by expiry (Unix seconds)
SIZES = f"{NAMESPACE}:handoff:sizes"  # hash: bytes in Redis by the entries' keys
# Sorted set of the uploads (`upload:<id>`) that no job needs any more, by the time of that (Unix seconds).
SPENT = f"{NAMESPACE}:handoff:spent"
# Sorted set of the files under HANDOFF_URL that live longer than by their age, by expiry (Unix seconds).
RENEWED = f"{NAMESPACE}:handoff:renewed"

# Workers
WORKERS = f"{NAMESPACE}:workers"  # hash: what each worker says of itself (JSON), by its broker's id
HEARTBEATS = f"{NAMESPACE}:beats"  # sorted set of workers by last heartbeat (milliseconds, by the server's clock)
BEGUN = f"{NAMESPACE}:begun"  # set of Redis ids of poison messages that are at work again
SWEEPER = f"{NAMESPACE}:sweeper"  # lock of the sweeper

# Webhooks; see store/outbox.py
OUTBOX = f"{NAMESPACE}:webhook"  # queue of the webhook workers, and the prefix of the keys below
RECEIVERS = f"{OUTBOX}:receivers"  # sorted set of receivers with pending jobs, by when to check them next
DELIVERIES = f"{OUTBOX}:counts"  # hash: how many deliveries were delivered, skipped, failed and stopped, ever

# Enrichment
ENRICH = f"{NAMESPACE}:enrich"  # prefix of what limits requests to a provider, see pipeline/enrich


def is_id(value: object) -> bool:
    """Return whether a job may have this id: text without a colon, behind which other keys of a job begin."""
    return is_text(value) and ":" not in str(value)


def record(job_id: str) -> str:
    """Return the key of a job's record, a hash.

    Raises:
        UnknownJob: no job may have this id; its record would be another key of another job's.
    """
    if not is_id(job_id):
        raise UnknownJob(job_id)
    return f"{NAMESPACE}:job:{job_id}"


RECORDS = record("")  # prefix of the records


def events(job_id: str) -> str:
    """Return the key of a job's events, a stream."""
    return f"{record(job_id)}:events"


def spending(job_id: str) -> str:
    """Return the key of what the enrichment of a job has cost so far, a hash."""
    return f"{ENRICH}:job:{job_id}"


def spending_of_day(day: str) -> str:
    """Return the key of what enrichment cost on a day (YYYY-MM-DD, UTC), a hash."""
    return f"{ENRICH}:totals:{day}"


def index(status: str | None = None, owner: str | None = None) -> str:
    """Return the key of a sorted set of job ids by creation (Unix seconds).

    Args:
        status: of the jobs; None: any.
        owner: of the jobs; None: any.
    """
    return f"{INDEX}:{'all' if owner is None else f'owner:{owner}'}:{status or 'any'}"


def timings(stage: str) -> str:
    """Return the key of a list: when a stage finished its last jobs (Unix seconds), how long each waited and took."""
    return f"{NAMESPACE}:timings:{stage}"


def audio(job_id: str) -> str:
    """Return the key of a job's audio, a list: a header, then chunks."""
    return f"{NAMESPACE}:audio:{job_id}"


def upload(upload_id: str) -> str:
    """Return the key of an upload, a list like `audio`."""
    return f"{NAMESPACE}:upload:{upload_id}"


def fingerprint(digest: str) -> str:
    """Return the key of the id of the job that last transcribed audio with this fingerprint, a string."""
    return f"{NAMESPACE}:message:{digest}"


def requests(name: str) -> str:
    """Return the key of the times of an API key's requests in the last minute (microseconds), a sorted set."""
    return f"{NAMESPACE}:web:requests:{name}"


def queue(name: str, suffix: str = "") -> str:
    """Return the key of a queue's list of waiting messages, or with a suffix what belongs to it."""
    return f"{NAMESPACE}:{name}{suffix}"


def acks(worker: str, name: str) -> str:
    """Return the key of the set of the messages that a worker has taken from a queue and not acknowledged."""
    return f"{NAMESPACE}:__acks__.{worker}.{name}"


def outbox(kind: str, receiver: str) -> str:
    """Return the key of what the outbox keeps for a receiver: `jobs`, `busy` or `receiver`."""
    return f"{OUTBOX}:{kind}:{receiver}"
