"""Messages that are not to be begun yet: those of the future."""

from dramatiq import Message

from actors.broker import for_process
from pipeline import jobs
from pipeline.options import Options

ACTOR = """
@dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=JobError)
def transcribe(job_id, schema=1):
    jobs.finish(job_id, "transcribe", {"transcript": {"text": job_id}}, last=True)
"""


def test_a_thousand_messages_of_next_week_hold_up_none_that_is_due_soon(workers):
    sender = for_process("decode")
    for number in range(1000):  # what Dramatiq holds for one thread
        name = f"far-{number}"
        sender.enqueue(Message("transcribe", "transcribe", (name,), {}, {}, message_id=name), delay=7 * 86_400_000)
    jobs.create("soon", "voice.ogg", Options())
    sender.enqueue(Message("transcribe", "transcribe", ("soon",), {}, {}, message_id="soon"), delay=100)

    workers.start(ACTOR, "transcribe", threads=1)

    assert jobs.wait("soon", timeout=20).status == "done"
