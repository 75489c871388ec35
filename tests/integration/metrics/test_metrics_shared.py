"""The metrics of the whole system, which every worker reads from Redis."""

import time

import pytest
from live import jobs, outbox, spending, store

from pipeline.metrics import shared
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.outbox import VERDICTS
from voicemill.store.spending import Spent


def samples():
    """Return every value by the metric's name and its labels."""
    return {(name, *labels): value for name, labels, value in shared.read(store)}


def test_an_empty_system_exposes_zeros_so_that_the_first_event_is_an_increase(redis_url):
    values = samples()

    assert set(values.values()) == {0}
    assert {name for name, *_ in values} >= {"jobs_ended_total", "gemini_tokens_total", "webhook_deliveries_total"}


def test_requests_tokens_and_cost_of_gemini_are_summed_by_day(redis_url):
    spending.add("one", 60, Spent(1, 0, 0, 100, 20, 0.5, 0.25))
    spending.add("two", 60, Spent(1, 1, 1, wrong=1, cost_usd=None))
    spending.count_job()
    values = samples()

    assert values["summaries_total",] == 1
    assert (values["gemini_requests_total",], values["gemini_failures_total",]) == (2, 1)
    assert (values["gemini_tokens_total", "input"], values["gemini_tokens_total", "output"]) == (100, 20)
    assert values["gemini_cost_dollars_total",] == 0.25
    assert values["gemini_unpriced_total",] == 1


def test_receivers_are_counted_by_state_and_never_named(redis_url):
    for number in range(6):
        jobs.create(f"job-{number}", "voice.ogg", Options(callback_url=f"https://host-{number}.example/hook"))
        jobs.cancel(f"job-{number}")
    names = [receiver.name for receiver in outbox.receivers()]
    for name in names[:3]:
        store.redis.hset(keys.outbox("receiver", name), "streak", 2)
    store.redis.hset(keys.outbox("receiver", names[0]), "until", time.time() + 600)
    store.redis.zadd(keys.outbox("jobs", names[5]), {"job-5": time.time() - 100})
    store.redis.hset(keys.DELIVERIES, mapping={"delivered": 5, "failed": 3})
    values = samples()

    states = {state: values["webhook_receivers", state] for state in ("well", "failing", "paused")}
    assert states == {"well": 3, "failing": 2, "paused": 1}
    assert values["queue_messages", "webhook", "waiting"] == 6
    assert values["queue_oldest_seconds", "webhook"] == pytest.approx(100, abs=30)
    counts = {verdict: values["webhook_deliveries_total", verdict] for verdict in VERDICTS}
    assert counts == {"delivered": 5, "failed": 3, "skipped": 0, "stopped": 0}
    assert not [labels for labels in values if "host-" in "".join(labels)]
