"""Messages that are not to be begun yet: delayed ones, and those whose results would have no room."""

from live import jobs, queues, store

from voicemill import decode
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import letter

STAGE = """
WORKER.declare(lambda job, context: Result({"transcript": {"text": job.id}}))
"""

CANCELS = """
WORKER.declare(lambda job, context: context.store.jobs.cancel(job.id) and None)
"""


def test_a_thousand_messages_of_next_week_hold_up_none_that_is_due_soon(workers):
    for number in range(1000):  # what Dramatiq holds for one thread
        queues.push(letter("transcribe", f"far-{number}", delay=7 * 86400))
    jobs.create("soon", "voice.ogg", Options(enrich=False))
    queues.push(letter("transcribe", "soon", delay=0.1))

    workers.start(STAGE, "transcribe", threads=1)

    assert jobs.wait("soon", timeout=60).status == "done"


def test_a_decode_worker_begins_nothing_while_too_much_waits_for_transcribe_and_resumes_afterwards(workers):
    queues.push(letter("transcribe", "earlier"))
    job_id = decode.send("voice.ogg").message_id

    workers.start(CANCELS, MAX_QUEUED="1")

    workers.until("1 messages wait for transcribe, and MAX_QUEUED is 1")
    assert workers.matching("Decoding paused")
    assert jobs.get(job_id).status == "queued"
    store.redis.delete(keys.queue("transcribe"), keys.queue("transcribe", ".msgs"))
    assert jobs.wait(job_id, timeout=60).status == "cancelled"
    workers.until("Decoding resumed")
