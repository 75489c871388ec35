"""Put messages among the dead letters, as workers do."""

from dramatiq import Message
from live import current, jobs, queues, store

from actors.broker import Broker
from voicemill.errors import ErrorCode, JobError
from voicemill.store import keys


def die(job_id, stage, code="undecodable"):
    """Fail a job and make its message a dead letter."""
    broker = Broker(current())
    jobs.fail(job_id, stage, JobError(ErrorCode(code), "no"))
    message = Message(stage, stage, (job_id,), {}, {"redis_message_id": f"r-{job_id}"}, message_id=job_id)
    broker.do_enqueue(stage, f"r-{job_id}", message.encode())
    broker.do_fetch(stage, 100)
    broker.do_nack(stage, f"r-{job_id}")
    if others := store.redis.smembers(keys.acks(broker.broker_id, stage)):
        broker.do_requeue(stage, *others)


def dead_letter(job_id):
    """Return the dead letter of a job."""
    return next(found for found in queues.dead_letters() if found.job_id == job_id)
