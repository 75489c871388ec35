"""Metrics that all workers share, read from Redis: queues, jobs, costs, webhooks.

Every worker serves them, so that a stage without workers still shows up. Reading takes about ten round trips.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from voicemill.lifecycle import ENDED, WEBHOOK
from voicemill.store import Store
from voicemill.store.outbox import Receiver


class Sample(NamedTuple):
    """A value of a metric, with its labels in the order of the catalogue."""

    name: str
    labels: tuple[str, ...]
    value: float


def read(store: Store) -> Iterator[Sample]:
    """Yield all samples.

    Raises:
        RedisError: Redis cannot be used.
    """
    receivers = store.outbox.receivers()
    yield from _jobs(store)
    yield from _queues(store, receivers)
    yield from _gemini(store)
    yield from _webhooks(store, receivers)


def _jobs(store: Store) -> Iterator[Sample]:
    ended, failures = store.jobs.counts()
    for status in ENDED:
        yield Sample("jobs_ended_total", (status,), ended[status])
    for (stage, code), count in failures.items():
        yield Sample("job_failures_total", (stage, code), count)
    yield Sample("jobs_unfinished", (), store.jobs.unfinished())
    yield Sample("handoff_bytes", (), store.audio.total_bytes())


def _queues(store: Store, receivers: list[Receiver]) -> Iterator[Sample]:
    present = [stage for worker in store.workers.alive() for stage in worker.stages]
    for queue, depth in store.queues.depths(receivers).items():
        for state in ("waiting", "in_progress", "delayed"):
            yield Sample("queue_messages", (queue, state), getattr(depth, state))
        yield Sample("dead_letters", (queue,), depth.dead)
        yield Sample("workers", (queue,), present.count(queue))
        if queue != WEBHOOK:
            yield Sample("queue_oldest_seconds", (queue,), store.queues.oldest(queue) or 0.0)


def _gemini(store: Store) -> Iterator[Sample]:
    sums = store.spending.totals()
    yield Sample("summaries_total", (), sums["summaries"])
    yield Sample("gemini_requests_total", (), sums["requests"])
    yield Sample("gemini_failures_total", (), sums["failures"])
    yield Sample("gemini_tokens_total", ("input",), sums["input_tokens"])
    yield Sample("gemini_tokens_total", ("output",), sums["output_tokens"])
    yield Sample("gemini_cost_dollars_total", (), sums["cost_usd"])
    yield Sample("gemini_unpriced_total", (), sums["unpriced_requests"])


def _webhooks(store: Store, receivers: list[Receiver]) -> Iterator[Sample]:
    for verdict, count in store.outbox.counts().items():
        yield Sample("webhook_deliveries_total", (verdict,), count)
    paused = sum(receiver.paused_until is not None for receiver in receivers)
    failing = sum(receiver.failures > 0 and receiver.paused_until is None for receiver in receivers)
    for state, count in (("well", len(receivers) - failing - paused), ("failing", failing), ("paused", paused)):
        yield Sample("webhook_receivers", (state,), count)
    overdue = max((time.time() - receiver.oldest for receiver in receivers), default=0.0)
    yield Sample("queue_oldest_seconds", (WEBHOOK,), max(0.0, overdue))
