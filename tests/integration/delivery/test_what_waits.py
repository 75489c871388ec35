"""Messages that are not to be begun yet: those of the future, and those whose results would have no place."""

from dramatiq import Message
from live import jobs, queues, store

from actors import decode
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import letter

ACTOR = """
@dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=JobError)
def transcribe(job_id, schema=1):
    jobs.finish(job_id, "transcribe", {"transcript": {"text": job_id}}, following=None)
"""

DECODE = """
@dramatiq.actor(queue_name="decode", actor_name="decode", broker=BROKER, throws=JobError)
def decode(source, **options):
    from dramatiq.middleware import CurrentMessage
    jobs.cancel(CurrentMessage.get_current_message().message_id)
"""


def test_a_thousand_messages_of_next_week_hold_up_none_that_is_due_soon(workers):
    sender = for_process("decode")
    for number in range(1000):  # what Dramatiq holds for one thread
        name = f"far-{number}"
        sender.enqueue(Message("transcribe", "transcribe", (name,), {}, {}, message_id=name), delay=7 * 86_400_000)
    jobs.create("soon", "voice.ogg", Options())
    sender.enqueue(Message("transcribe", "transcribe", ("soon",), {}, {}, message_id="soon"), delay=100)

    workers.start(ACTOR, "transcribe", threads=1)

    assert jobs.wait("soon", timeout=60).status == "done"


def test_a_decode_worker_begins_nothing_while_too_much_waits_for_transcribe_and_goes_on_afterwards(workers):
    queues.push(letter("transcribe", "earlier"))
    job_id = decode.send("voice.ogg").message_id

    workers.start(DECODE, MAX_QUEUED="1")

    workers.until("Decoding pauses: 1 messages wait for transcribe, and MAX_QUEUED is 1")
    assert jobs.get(job_id).status == "queued"
    store.redis.delete(keys.queue("transcribe"), keys.queue("transcribe", ".msgs"))
    assert jobs.wait(job_id, timeout=60).status == "cancelled"
