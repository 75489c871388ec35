"""The attempt that a worker's thread makes at a job: the runner begins it, and retries end it."""

from __future__ import annotations

import threading


class Attempt(threading.local):
    """What one thread knows of its present attempt. `token` is None until the job's work has begun."""

    token: int | None = None
