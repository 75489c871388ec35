"""Jobs and messages that the previous version queued are processed after an upgrade.

Its messages have schema 1: source and options to decode, the job's id to the other stages. Its records expired while
their jobs were unfinished, and were in no index.
"""

import json
import time

import pytest
from dramatiq import Message
from live import jobs, queues, store
from running import RESULTS, TEXT, Process

from voicemill.store import keys
from voicemill.store.queue import job_of

pytestmark = pytest.mark.usefixtures("redis_url")

TTL = 1000  # seconds


def record(status, **fields):
    """Write the record of a job as the previous version did."""
    now, client = time.time(), store.redis
    options = {"language": "ko", "enrich": True, "prompt": "Anna"}
    common = {"status": status, "source": "voice.ogg", "options": json.dumps(options), "created_at": now}
    client.hset(keys.record("j"), mapping=common | {"decode.queued_at": now} | fields)
    client.xadd(keys.events("j"), {"event": json.dumps({"at": now, "status": status, "detail": {}})})
    client.expire(keys.record("j"), TTL)
    client.expire(keys.events("j"), TTL)
    client.zadd(keys.UNFINISHED, {"j": now})


def put(stage, *args, **keywords):
    message = Message(stage, stage, args, keywords, {"redis_message_id": "r-1"}, message_id="j")
    store.redis.hset(keys.queue(stage, ".msgs"), "r-1", message.encode())
    store.redis.rpush(keys.queue(stage), "r-1")


def waiting(stage):
    return [job_of(body) for body in store.redis.hvals(keys.queue(stage, ".msgs"))]


@pytest.mark.parametrize("version", [{}, {"schema": 1}], ids=["no schema", "schema 1"])
def test_a_message_to_decode_is_processed_with_its_record(version):
    languages = []

    def work(job, _context):
        languages.append(job.options.language)
        return RESULTS["decode"]

    record("queued")
    put("decode", "voice.ogg", language="ko", prompt="Anna", **version)

    Process("decode", work).process()

    assert languages == ["ko"]
    assert jobs.get("j").status == "decoded"
    assert (waiting("decode"), waiting("transcribe")) == ([], ["j"])


@pytest.mark.parametrize("version", [{}, {"schema": 1}], ids=["no schema", "schema 1"])
def test_messages_to_the_other_stages_are_processed(version):
    record("decoded", audio="{}", **{"transcribe.queued_at": time.time()})
    put("transcribe", "j", **version)

    Process("transcribe").process()

    assert (jobs.get("j").status, jobs.get("j").transcript.text) == ("transcribed", "Hello.")
    assert (waiting("transcribe"), waiting("enrich")) == ([], ["j"])
    store.redis.delete(keys.queue("enrich"), keys.queue("enrich", ".msgs"))
    put("enrich", "j", **version)

    Process("enrich").process()

    assert jobs.get("j").status == "done"
    assert queues.job_ids() == set()


def test_a_record_with_a_ttl_is_kept_until_its_job_has_ended_and_is_listed():
    record("queued")
    put("decode", "voice.ogg", schema=1)

    Process("decode").process()

    assert store.redis.ttl(keys.record("j")) == store.redis.ttl(keys.events("j")) == -1
    assert [job.id for job in jobs.page("decoded")] == ["j"]
    Process("transcribe").process()
    Process("enrich").process()
    assert store.redis.ttl(keys.record("j")) > TTL
    assert store.redis.ttl(keys.events("j")) > TTL
    assert [job.id for job in jobs.page("done")] == ["j"]
    assert store.redis.zcard(keys.UNFINISHED) == 0


@pytest.mark.parametrize(
    ("stage", "args", "status", "fields", "following"),
    [
        ("decode", ("voice.ogg",), "decoded", {"audio": "{}"}, "transcribe"),
        ("transcribe", ("j",), "transcribed", {"transcript": json.dumps(TEXT["transcript"])}, "enrich"),
    ],
    ids=["decode", "transcribe"],
)
def test_a_message_whose_worker_died_between_result_and_next_message_is_handed_on(
    stage, args, status, fields, following
):
    """The previous version stored the result first and queued the next message afterwards."""
    record(status, **fields)
    put(stage, *args, schema=1)

    Process(stage, lambda _job, _context: pytest.fail("the work is done")).process()

    assert jobs.get("j").status == status
    assert (waiting(stage), waiting(following)) == ([], ["j"])


def test_a_message_of_this_version_that_comes_again_is_not_handed_on_twice():
    record("decoded", audio="{}")
    put("decode", "j", schema=2)

    Process("decode", lambda _job, _context: pytest.fail("the work is done")).process()

    assert (waiting("decode"), waiting("transcribe")) == ([], [])
