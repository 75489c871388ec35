"""Messages of other producers: they carry a source and options, and get a record when decode first sees them."""

import json

import pytest
from dramatiq import Message
from live import jobs, queues, store
from running import RESULTS, Process

from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import SCHEMA

pytestmark = pytest.mark.usefixtures("redis_url")

SOURCE = "https://example.com/voice.ogg?token=secret"


def put(*args, job_id="j", retries=None, **keywords):
    """Put a message into the queue of decode as a producer with nothing but Dramatiq does; return Redis's id of it."""
    options = {"redis_message_id": f"r-{job_id}"} | ({} if retries is None else {"retries": retries})
    message = Message("decode", "decode", args, keywords, options, message_id=job_id, message_timestamp=1_000)
    store.redis.hset(keys.queue("decode", ".msgs"), f"r-{job_id}", message.encode())
    store.redis.rpush(keys.queue("decode"), f"r-{job_id}")
    return f"r-{job_id}"


def body(redis_id, suffix=".msgs"):
    return json.loads(store.redis.hget(keys.queue("decode", suffix), redis_id))


@pytest.mark.parametrize("version", [{}, {"schema": 1}, {"schema": 2}], ids=["no schema", "schema 1", "schema 2"])
def test_a_message_with_a_source_gets_a_record_with_its_options(version):
    put(SOURCE, language="ko", metadata={"chat": 7}, **version)

    Process("decode").process()

    job = jobs.get("j")
    assert (job.status, job.options.language, job.metadata) == ("decoded", "ko", {"chat": 7})
    assert jobs.raw_source("j") == SOURCE
    assert [found.id for found in jobs.page()] == ["j"]


def test_the_body_of_an_adopted_message_is_replaced_by_ids_alone_before_the_work_begins():
    redis_id, seen = put(SOURCE, language="ko", prompt="Anna", retries=2), []

    def work(_job, _context):
        seen.append(body(redis_id))
        return RESULTS["decode"]

    Process("decode", work).process()

    assert seen == [
        {
            "queue_name": "decode",
            "actor_name": "decode",
            "args": ["j"],
            "kwargs": {"schema": SCHEMA},
            "options": {"redis_message_id": redis_id, "retries": 2},
            "message_id": "j",
            "message_timestamp": 1_000,
        }
    ]


def test_an_adopted_message_that_its_worker_left_behind_is_processed_with_its_options():
    languages = []

    def work(job, _context):
        languages.append(job.options.language)
        return RESULTS["decode"]

    put(SOURCE, language="ko")
    dying = Process("decode", lambda _job, _context: 1 / 0)
    message = dying.take()
    with pytest.raises(ZeroDivisionError):
        dying.runner.run(message.message_id, message.args, message.kwargs, message.options["redis_message_id"])
    dying.broker.do_requeue("decode", message.options["redis_message_id"])  # as the living do for a dead worker

    again = Process("decode", work).process()

    assert again.args == ("j",)
    assert languages == ["ko"]


def test_a_retry_of_an_adopted_message_carries_the_id_alone():
    def work(_job, _context):
        raise JobError(ErrorCode.SOURCE_UNAVAILABLE, "the server answers 503")

    put(SOURCE, language="ko", prompt="Anna")

    Process("decode", work).process()

    (again,) = map(json.loads, store.redis.hvals(keys.queue("decode", ".DQ.msgs")))
    assert (again["args"], again["kwargs"]) == (["j"], {"schema": SCHEMA})
    assert set(again["options"]) == {"redis_message_id", "eta", "retries"}
    assert store.redis.hlen(keys.queue("decode", ".msgs")) == 0


@pytest.mark.parametrize(
    ("args", "keywords", "code"),
    [
        ((SOURCE,), {"language": "klingon"}, "invalid_options"),
        ((), {}, "invalid_options"),
        ((SOURCE, "more"), {}, "invalid_options"),
        ((SOURCE,), {"schema": SCHEMA + 1}, "unsupported_schema"),
        (("x" * (1024**2 + 1),), {}, "source_too_large"),
    ],
    ids=["option", "no source", "two sources", "later schema", "long source"],
)
def test_an_invalid_message_gets_a_failed_job_and_a_dead_letter_that_carries_the_id_alone(args, keywords, code):
    redis_id = put(*args, **keywords)

    Process("decode").process()

    job = jobs.get("j")
    assert (job.status, job.error.code, job.error.stage) == ("failed", code, "decode")
    assert [(found.job_id, found.code) for found in queues.dead_letters()] == [("j", code)]
    dead = body(redis_id, ".XQ.msgs")
    assert (dead["args"], dead["kwargs"]) == (["j"], {"schema": SCHEMA})


def test_a_message_that_is_an_id_alone_creates_no_record():
    put("unknown", job_id="unknown", schema=SCHEMA)

    message = Process("decode", lambda _job, _context: pytest.fail("there is no job")).process()

    assert not message.failed
    assert not store.redis.exists(keys.record("unknown"))
    assert jobs.page() == []


def test_a_message_whose_job_was_deleted_does_not_bring_it_back():
    put(SOURCE)
    adopting = Process("decode", lambda _job, _context: pytest.fail("the job was deleted"))
    jobs.create("j", SOURCE, Options())
    jobs.delete("j")

    assert not adopting.process().failed

    assert jobs.page() == []
    assert store.redis.hgetall(keys.record("j")) == {b"status": b"deleted"}


def test_a_message_of_a_later_schema_fails_its_job_and_is_kept():
    put(SOURCE, schema=SCHEMA + 1)
    put("known", job_id="known", schema=SCHEMA + 1)
    jobs.create("known", SOURCE, Options())
    worker = Process("decode")

    assert [worker.process().failed for _ in range(2)] == [True, True]

    assert {jobs.get(job_id).error.code for job_id in ("j", "known")} == {"unsupported_schema"}
    assert {found.job_id for found in queues.dead_letters()} == {"j", "known"}
