"""A worker that dies takes no message with it; a message that kills its workers ends as a dead letter."""

import os
import shutil
import signal
import time

from actors.beat import BEGUN_KEY
from dramatiq import Message
from live import audio, jobs, queues, store
from processes import becomes, children, end, slowness

from actors import decode
from config.environment import STATE
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import letter

CLONE = STATE.parent

ACTOR = """
@dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=JobError)
def transcribe(job_id, schema=1):
    client = store.redis
    client.rpush("begun", job_id)
    if job_id == "poison":
        client.blpop("strike", timeout=5)
        os.kill(os.getpid(), signal.SIGKILL)
    if job_id == "slow" and client.llen("begun") < 2:
        time.sleep(60)
    jobs.finish(job_id, "transcribe", {"transcript": {"text": job_id}}, following=None)
"""


def send(*names):
    for name in names:
        jobs.create(name, "voice.ogg", Options())
        queues.push(letter("transcribe", name))


def test_a_message_of_a_killed_worker_is_at_work_elsewhere_within_20_seconds(workers):
    first = workers.start(ACTOR, "transcribe", threads=1)
    send("slow")
    client = store.redis
    assert client.blmove("begun", "begun", 10, "LEFT", "LEFT")
    workers.start(ACTOR, "transcribe", threads=1)

    began = time.monotonic()
    os.kill(next(worker.pid for worker in workers.alive() if worker.pid in children(first.pid)), signal.SIGKILL)

    assert jobs.wait("slow", timeout=60).status == "done"
    assert time.monotonic() - began < 20 * slowness()
    assert becomes(lambda: client.hlen(keys.queue("transcribe", ".msgs")) == 0)  # it is acknowledged after it is done


def test_a_message_that_kills_its_workers_again_and_again_fails_and_its_neighbours_do_not(workers):
    # Redelivery in two seconds instead of a quarter of a minute, for the sake of the suite's time.
    body = "from actors import heartbeat\nheartbeat.INTERVAL = 0.5\nBROKER.heartbeat_timeout = 1500\n" + ACTOR
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


def test_a_worker_of_which_a_thread_has_died_ends_instead_of_looking_well(workers):
    master = workers.start(
        """
        from actors import heartbeat
        heartbeat.INTERVAL = 0.2
        @dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws="no exception")
        def transcribe(job_id, schema=1):
            raise JobError(ErrorCode.INTERNAL, "what it throws is compared with no exception, which ends the thread")
        """,
        "transcribe",
    )

    send("j")

    assert master.wait(60) == 1
    workers.until("A thread of this worker has died")


def test_what_does_not_end_within_the_shutdown_timeout_goes_back_at_once_and_that_is_no_death(workers):
    broker, client = for_process("decode"), store.redis
    master = workers.start(ACTOR, "transcribe", SHUTDOWN_TIMEOUT="0.5")
    jobs.create("slow", "voice.ogg", Options())
    options = {"redis_message_id": "r~2"}  # one that was at work in two workers that died
    message = Message("transcribe", "transcribe", ("slow",), {}, options, message_id="slow")
    broker.do_enqueue("transcribe", "r~2", message.encode())
    assert client.blmove("begun", "begun", 10, "LEFT", "LEFT")

    master.terminate()
    master.wait(60)

    assert client.lrange(keys.queue("transcribe"), 0, -1) == [b"r~2"]
    assert not client.exists(BEGUN_KEY)
    workers.start(ACTOR, "transcribe")
    assert jobs.wait("slow", timeout=60).status == "done"


def test_a_worker_whose_master_is_killed_drains_and_ends_however_much_it_has_to_say(workers):
    body = """
    import structlog
    @dramatiq.actor(queue_name="transcribe", actor_name="transcribe", broker=BROKER, throws=JobError)
    def transcribe(job_id, schema=1):
        jobs.begin(job_id, "transcribe", "host:1")
        store.redis.blpop("go on", timeout=30)
        for number in range(2000):  # more than a pipe holds, and nobody reads it any more
            structlog.get_logger().info("x" * 100)
        jobs.finish(job_id, "transcribe", {"transcript": {"text": job_id}}, following=None)
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


def test_a_decoded_job_whose_worker_died_before_it_said_so_and_whose_audio_is_gone_is_decoded_again(workers, tmp_path):
    shutil.copy(CLONE / "samples" / "voice-message.ogg", tmp_path)
    job_id = decode.send("voice-message.ogg").message_id
    jobs.begin(job_id, "decode", "host:1")
    jobs.finish(job_id, "decode", {"audio": {}})

    workers.start("import actors.decode", MEDIA_ROOT=str(tmp_path))

    assert becomes(lambda: store.redis.llen(keys.queue("transcribe")) == 1)
    assert audio.exists(job_id)
    assert jobs.get(job_id).status == "decoded"
