"""How often a worker tries a job, and what the record says of it."""

import pytest
from live import jobs, store

from voicemill.options import Options

STAGE = """
def work(job, context):
    if store.redis.decr("failures:" + job.id) >= 0:
        raise JobError(ErrorCode(store.redis.get("code:" + job.id).decode()), "as the test wants it")
    return Result({"transcript": {"text": job.id}})
WORKER.declare(work)
"""


def send(name, code="undecodable", failures=0):
    """Send a job to the transcribe stage that fails so many times."""
    store.redis.set(f"failures:{name}", failures)
    store.redis.set(f"code:{name}", code)
    jobs.create(name, "voice.ogg", Options(enrich=False))
    jobs.finish(name, "decode", {"audio": {}})


def test_what_may_pass_is_retried_and_the_record_says_when_and_how_often(workers):
    workers.start(STAGE, "transcribe")
    send("j", "out_of_memory", failures=1)

    retries = []
    for event in jobs.events("j", timeout=30):
        if "retry" in event.detail:
            retries.append(event.detail["retry"])
            assert jobs.get("j").stages["transcribe"].next_retry_at == pytest.approx(retries[-1]["at"])

    job = jobs.get("j")
    assert (job.status, job.stages["transcribe"].attempts) == ("done", 2)
    assert [retry["code"] for retry in retries] == ["out_of_memory"]
    assert job.stages["transcribe"].started_at >= retries[0]["at"] - 0.1
    assert job.stages["transcribe"].next_retry_at is None


def test_bad_input_is_tried_once(workers):
    workers.start(STAGE, "transcribe")
    send("j", "undecodable", failures=9)

    job = jobs.wait("j", timeout=60)

    assert (job.status, job.error.code, job.stages["transcribe"].attempts) == ("failed", "undecodable", 1)


def test_a_waiting_job_that_is_cancelled_is_not_begun(workers):
    send("j")
    jobs.cancel("j")
    workers.start(STAGE, "transcribe")

    workers.until("its job has ended")

    assert jobs.get("j").status == "cancelled"
    assert jobs.get("j").stages["transcribe"].attempts == 0
