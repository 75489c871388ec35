"""The sweeper: it ends jobs that nothing else would end, against a real Redis."""

import time

import pytest
from live import current, jobs, queues, store

from actors.broker import Broker
from config import settings
from pipeline.sweeper import BUDGET, Sweeper
from voicemill import decode
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import job_of

pytestmark = pytest.mark.usefixtures("redis_url")


@pytest.fixture
def sweeper(redis_url):
    return Sweeper(current(), settings.get())


def test_a_job_whose_message_vanished_ends_as_lost_and_others_are_left_alone(sweeper):
    lost = decode.send("lost.ogg").message_id
    Broker(current()).do_fetch("decode", 1)
    store.redis.delete(keys.queue("decode", ".msgs"))  # as an eviction would
    waiting = decode.send("waiting.ogg").message_id
    delayed = decode.send_with_options(args=("delayed.ogg",), delay=60_000).message_id
    done = decode.send("done.ogg").message_id
    jobs.cancel(done)

    assert sweeper.sweep(after=0) == [lost]

    assert (jobs.get(lost).status, jobs.get(lost).error.code) == ("failed", "lost")
    assert {jobs.get(job_id).status for job_id in (waiting, delayed)} == {"queued"}


def test_a_summary_that_no_worker_writes_is_awaited_no_longer_than_the_deadline(sweeper):
    late, early, untouched = (decode.send(name).message_id for name in ("late.ogg", "early.ogg", "untouched.ogg"))
    for job_id in (late, early):
        jobs.finish(job_id, "transcribe", {"transcript": {"text": "Hello."}})
    long_ago = time.time() - settings.get().enrich_deadline - 1
    store.redis.hset(keys.record(late), "enrich.queued_at", long_ago)

    assert sweeper.sweep(after=0) == []

    job = jobs.get(late)
    assert (job.status, job.error, job.enrichment_error.code) == ("done", None, "enrich_deadline")
    assert [jobs.get(job_id).status for job_id in (early, untouched)] == ["transcribed", "queued"]


@pytest.mark.parametrize("suffix", ["", ".DQ"])
def test_an_orphaned_message_is_queued_again(sweeper, suffix):
    """Redis has evicted the queue's list, or the set of messages that a worker has taken."""
    delay = 60_000 if suffix else None
    taken, waiting = (decode.send_with_options(args=("a.ogg",), delay=delay).message_id for _ in range(2))
    broker, client, queue = Broker(current()), store.redis, "decode" + suffix
    broker.do_fetch(queue, 1)
    acks = keys.acks(broker.broker_id, queue)

    assert sweeper.sweep(after=0) == []
    assert (client.llen(keys.queue(queue)), client.scard(acks)) == (1, 1)
    client.delete(acks)
    assert sweeper.sweep(after=0) == []
    assert client.llen(keys.queue(queue)) == 2
    client.delete(keys.queue(queue))
    assert sweeper.sweep(after=0) == []

    found = {job_of(body) for body in broker.do_fetch(queue, 9)}
    assert found == {taken, waiting}


def test_a_job_whose_message_killed_its_workers_ends_as_worker_killed_and_not_as_lost(sweeper):
    job_id = decode.send("poison.ogg").message_id
    client, broker = store.redis, Broker(current())
    (redis_id,) = client.lrange(keys.queue("decode"), 0, -1)
    body = client.hget(keys.queue("decode", ".msgs"), redis_id)
    client.delete(keys.queue("decode"), keys.queue("decode", ".msgs"))
    broker.do_enqueue("decode", redis_id.decode() + "~3", body)  # as actors/heartbeat.lua renames it
    broker.do_fetch("decode", 1)
    broker.do_nack("decode", redis_id.decode() + "~3")

    assert sweeper.sweep(after=0) == [job_id]

    assert jobs.get(job_id).error.code == "worker_killed"
    assert [found.code for found in queues.dead_letters()] == ["worker_killed"]


def test_a_sweep_reads_waiting_jobs_a_page_at_a_time():
    client = store.redis
    for _ in range(300):
        decode.send("waiting.ogg")
    before, reads = time.time(), client.info("stats")["total_reads_processed"]

    assert Sweeper(current(), settings.get(), page=100).sweep(after=0) == []

    assert client.info("stats")["total_reads_processed"] - reads < 50  # about the round trips
    changed = client.zrange(keys.UNFINISHED, 0, -1, withscores=True)
    assert len(changed) == 300
    assert all(at >= before for _, at in changed)


def test_a_sweep_ends_with_its_budget_and_the_next_one_begins_with_the_oldest_jobs():
    job_ids = [decode.send("waiting.ogg").message_id for _ in range(6)]
    client = store.redis
    client.zadd(keys.UNFINISHED, {job_id: number for number, job_id in enumerate(job_ids)})
    now = 0.0

    class Slow(Sweeper):
        def _postpone(self, page):
            nonlocal now
            super()._postpone(page)
            now += 0.7 * BUDGET

    Slow(current(), settings.get(), page=2, clock=lambda: now).sweep()

    left = [name.decode() for name in client.zrange(keys.UNFINISHED, 0, -1)[:2]]
    assert left == job_ids[4:]


def test_a_job_that_changed_lately_is_not_checked(sweeper):
    jobs.create("j", "voice.ogg", Options())

    assert sweeper.sweep() == []

    assert jobs.get("j").status == "queued"


def test_one_worker_sweeps_at_a_time(sweeper):
    jobs.create("j", "voice.ogg", Options())
    store.redis.zadd(keys.UNFINISHED, {"j": time.time() - 3600})
    store.redis.set(keys.SWEEPER, "another", px=60_000)

    sweeper.sweep_when_due()
    assert jobs.get("j").status == "queued"

    store.redis.delete(keys.SWEEPER)
    Sweeper(current(), settings.get()).sweep_when_due()
    assert jobs.get("j").status == "failed"
