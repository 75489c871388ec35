"""A worker that dies takes no message with it; a message that kills its workers ends as a dead letter."""

import os
import shutil
import signal
import time

import live
from dramatiq import Message
from live import audio, current, jobs, queues, store
from processes import becomes, children, end, slowness

from actors.attempt import Attempt
from actors.broker import Broker
from actors.runner import Runner
from config import settings
from config.environment import STATE
from pipeline.transcribe.stage import Transcribing
from voicemill import decode
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import letter

CLONE = STATE.parent

STAGE = """
def work(job, context):
    client = store.redis
    client.rpush("begun", job.id)
    if job.id == "poison":
        client.blpop("strike", timeout=5)
        os.kill(os.getpid(), signal.SIGKILL)
    if job.id == "slow" and client.llen("begun") < 2:
        time.sleep(60)
    return Result({"transcript": {"text": job.id}})
WORKER.declare(work)
"""


def send(*names):
    for name in names:
        jobs.create(name, "voice.ogg", Options(enrich=False))
        queues.push(letter("transcribe", name))


def test_a_message_of_a_killed_worker_is_at_work_elsewhere_within_20_seconds(workers):
    first = workers.start(STAGE, "transcribe", threads=1)
    send("slow")
    client = store.redis
    assert client.blmove("begun", "begun", 10, "LEFT", "LEFT")
    workers.start(STAGE, "transcribe", threads=1)

    began = time.monotonic()
    os.kill(next(worker.pid for worker in live.workers.alive() if worker.pid in children(first.pid)), signal.SIGKILL)

    assert jobs.wait("slow", timeout=60).status == "done"
    assert time.monotonic() - began < 20 * slowness()
    assert becomes(lambda: client.hlen(keys.queue("transcribe", ".msgs")) == 0)  # it is acknowledged after it is done


def test_a_message_that_keeps_killing_its_workers_fails_and_its_neighbours_do_not(workers):
    # Redelivery in two seconds instead of a quarter of a minute, for the sake of the suite's time.
    body = "HEARTBEAT.interval = 0.5\nBROKER.heartbeat_timeout = 1500\n" + STAGE
    client = store.redis
    send("poison", "one", "two", "three")
    for death in range(3):
        master = workers.start(body, "transcribe", threads=4)
        client.rpush("strike", death)
        master.wait(60)
    workers.start(body, "transcribe", threads=4)

    job = jobs.wait("poison", timeout=60)

    assert (job.status, job.error.code, job.error.stage) == ("failed", "worker_killed", "transcribe")
    assert [letter.job_id for letter in queues.dead_letters()] == ["poison"]
    assert client.lrange("begun", 0, -1).count(b"poison") == 3
    for name in ("one", "two", "three"):
        assert jobs.wait(name, timeout=60).status == "done"


def test_a_worker_with_a_dead_thread_exits_instead_of_looking_healthy(workers):
    master = workers.start(
        """
        HEARTBEAT.interval = 0.2
        @dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws="no exception")
        def transcribe(job_id, schema=1):
            raise JobError(ErrorCode.INTERNAL, "what it throws is compared with no exception, which ends the thread")
        """,
        "transcribe",
    )

    send("j")

    assert master.wait(60) == 1
    workers.until("A thread of this worker has died")


def test_what_does_not_end_within_the_shutdown_timeout_is_requeued_at_once_and_counts_no_death(workers):
    broker, client = Broker(current()), store.redis
    master = workers.start(STAGE, "transcribe", SHUTDOWN_TIMEOUT="0.5")
    jobs.create("slow", "voice.ogg", Options(enrich=False))
    options = {"redis_message_id": "r~2"}  # one that was at work in two workers that died
    message = Message("transcribe", "transcribe", ("slow",), {}, options, message_id="slow")
    broker.do_enqueue("transcribe", "r~2", message.encode())
    assert client.blmove("begun", "begun", 10, "LEFT", "LEFT")

    master.terminate()
    master.wait(60)

    assert client.lrange(keys.queue("transcribe"), 0, -1) == [b"r~2"]
    assert not client.exists(keys.BEGUN)
    workers.start(STAGE, "transcribe")
    assert jobs.wait("slow", timeout=60).status == "done"


def test_a_worker_whose_master_is_killed_drains_and_exits_however_much_it_logs(workers):
    body = """
    import structlog
    def work(job, context):
        store.redis.blpop("go on", timeout=30)
        for number in range(2000):  # more than a pipe holds, and nobody reads it any more
            structlog.get_logger().info("x" * 100)
        return Result({"transcript": {"text": job.id}})
    WORKER.declare(work)
    """
    master = workers.start(body, "transcribe")
    send("j")
    for event in jobs.events("j", timeout=60):
        if event.status == "transcribing":
            break
    started = children(master.pid)

    master.kill()
    store.redis.rpush("go on", "1")

    assert jobs.wait("j", timeout=60).status == "done"
    assert end(started)


def transcribe(message):
    """Run the real transcribe stage on a message; the engine is not reached, since the audio is gone."""
    runner = Runner("transcribe", Transcribing(engine=None), current(), settings.get(), Attempt())
    runner.run(message.message_id, message.args, message.kwargs, message.options["redis_message_id"])


def take(queue):
    """Take all messages of a queue, for good."""
    broker = Broker(current())
    found = [Message.decode(data) for data in broker.do_fetch(queue, 100)]
    for message in found:
        broker.do_ack(queue, message.options["redis_message_id"])
    return found


def decoded_by_a_killed_worker(folder):
    """Return the id of a job that a worker decoded before it died with the message unacknowledged."""
    shutil.copy(CLONE / "samples" / "voice-message.ogg", folder)
    job_id = decode.send("voice-message.ogg").message_id
    token = jobs.begin(job_id, "decode", "host:1")
    assert jobs.finish(job_id, "decode", {"audio": {}}, token=token)
    return job_id


def test_a_message_redelivered_after_its_work_was_stored_is_dropped_and_the_next_stage_gets_one(workers, tmp_path):
    job_id = decoded_by_a_killed_worker(tmp_path)

    workers.start_stage("decode", MEDIA_ROOT=str(tmp_path))

    assert becomes(lambda: not store.redis.hlen(keys.queue("decode", ".msgs")))
    assert [message.message_id for message in take("transcribe")] == [job_id]
    job = jobs.get(job_id)
    assert (job.status, job.stages["decode"].attempts) == ("decoded", 1)


def test_a_decoded_job_whose_audio_is_gone_is_decoded_again(workers, tmp_path):
    job_id = decoded_by_a_killed_worker(tmp_path)
    workers.start_stage("decode", MEDIA_ROOT=str(tmp_path))
    assert becomes(lambda: not store.redis.hlen(keys.queue("decode", ".msgs")))
    (message,) = take("transcribe")

    transcribe(message)

    assert becomes(lambda: store.redis.llen(keys.queue("transcribe")) == 1)
    assert audio.exists(job_id)
    job = jobs.get(job_id)
    assert (job.status, job.redecodes) == ("decoded", 1)


def test_a_job_that_an_older_worker_decoded_but_did_not_hand_on_is_handed_on_and_decoded_again(workers, tmp_path):
    """Workers of the previous version stored the result first and queued the next message afterwards."""
    job_id = decoded_by_a_killed_worker(tmp_path)
    take("transcribe")
    (sent,) = take("decode")
    old = sent.copy(args=("voice-message.ogg",), kwargs={"schema": 1})
    Broker(current()).do_enqueue("decode", old.options["redis_message_id"], old.encode())

    workers.start_stage("decode", MEDIA_ROOT=str(tmp_path))

    assert becomes(lambda: store.redis.llen(keys.queue("transcribe")) == 1)
    assert jobs.get(job_id).status == "decoded"
    transcribe(*take("transcribe"))
    assert becomes(lambda: store.redis.llen(keys.queue("transcribe")) == 1)
    assert audio.exists(job_id)
    assert jobs.get(job_id).status == "decoded"
