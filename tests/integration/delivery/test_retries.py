"""What a message that failed comes to: another try, or the end of its job."""

import json
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.errors import Retry
from live import jobs, queues, store

from actors import broker, retries
from actors.retries import LONGEST_WISH, MAX_RETRIES, MIN_BACKOFF, Retries, patiently
from actors.selftest import SelfTest
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys

pytestmark = pytest.mark.usefixtures("redis_url")


def fail(error, tried=0, stage="transcribe"):
    """Let a message's work end with an error after so many retries; return the message."""
    message = MessageProxy(Message(stage, stage, ("j",), {}, {"retries": tried}, message_id="j"))
    Retries().after_process_message(broker.Broker(middleware=[]), message, exception=error)
    return message


@pytest.fixture
def logged(monkeypatch):
    """The fields of what is logged as an error."""
    told = []
    levels = {"error": lambda _event, **fields: told.append(fields), "warning": lambda _event, **_fields: None}
    monkeypatch.setattr(retries, "log", SimpleNamespace(**levels))
    return told


def waits(error, tried=0):
    """Return the least and the most that the next try of a job's message can have been put off by (seconds)."""
    before = time.time()
    fail(error, tried)
    at = jobs.get("j").stages["transcribe"].next_retry_at
    return at - time.time(), at - before


@pytest.mark.parametrize(("code", "recorded"), [("gpu_unfit", "gpu_unfit"), ("internal", "worker_unfit")])
def test_a_message_that_failed_because_of_its_worker_is_handed_back_uncounted(code, recorded):
    jobs.create("j", "voice.ogg", Options())
    unfit = SelfTest("transcribe")
    unfit.test = Mock(side_effect=JobError(ErrorCode.GPU_UNFIT, "no slot of the engine is left"))
    options = {"retries": MAX_RETRIES}  # the next counted failure would end the job
    message = MessageProxy(Message("transcribe", "transcribe", ("j",), {}, options, message_id="j"))

    Retries(unfit).after_process_message(broker.Broker(middleware=[]), message, exception=JobError(code, "no"))
    unfit.after_worker_shutdown(None, None)

    assert not message.failed
    assert jobs.get("j").status == "queued"
    [waiting] = store.redis.hvals(keys.queue("transcribe", ".msgs"))
    assert Message.decode(waiting).options["retries"] == MAX_RETRIES
    assert store.redis.llen(keys.queue("transcribe")) == 1
    [*_, (_, last)] = store.redis.xrange(keys.events("j"))
    assert json.loads(last[b"event"])["detail"]["retry"]["code"] == recorded


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        redis.exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"),
        redis.ResponseError("BUSYGROUP Consumer Group name already exists"),
    ],
)
def test_what_redis_will_never_do_is_tried_no_more_often_than_other_faults(error, logged):
    jobs.create("j", "voice.ogg", Options())

    assert not fail(error, MAX_RETRIES - 1).failed
    assert [fields["exc_info"] for fields in logged] == [error]
    assert jobs.get("j").status == "queued"
    assert fail(error, MAX_RETRIES).failed

    assert jobs.get("j").error.code == "internal"


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("Connection refused"),
        redis.TimeoutError("Timeout reading from socket"),
        redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.ReadOnlyError("You can't write against a read only replica."),
        redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        redis.ResponseError("Error running script: @user_script:57: -OOM command not allowed"),
    ],
)
def test_what_redis_may_do_in_a_while_is_tried_for_as_long_as_it_takes(error, logged):
    jobs.create("j", "voice.ogg", Options())

    assert not fail(error, MAX_RETRIES).failed

    assert not logged
    assert jobs.get("j").status == "queued"
    assert queues.depths()["transcribe"].delayed == 1


def test_each_wait_is_twice_the_last_and_together_they_outlast_a_minute():
    jobs.create("j", "voice.ogg", Options())

    seen = [waits(JobError(ErrorCode.SOURCE_UNAVAILABLE, "no"), tried) for tried in range(MAX_RETRIES)]

    for tried, (least, most) in enumerate(seen):
        assert MIN_BACKOFF * 2**tried <= most
        assert least <= MIN_BACKOFF * 2**tried * 1.5
    assert sum(most for _, most in seen) > 60


def test_messages_that_failed_together_do_not_come_back_together():
    jobs.create("j", "voice.ogg", Options())

    seen = [waits(JobError(ErrorCode.SOURCE_UNAVAILABLE, "no"), MAX_RETRIES - 1) for _ in range(20)]

    assert max(least for least, _ in seen) - min(most for _, most in seen) > MIN_BACKOFF


@pytest.mark.parametrize(("wish", "honoured"), [(60.0, 60), (2e9, LONGEST_WISH)])
def test_a_servers_wish_to_wait_is_honoured_and_does_not_put_a_job_off_for_years(wish, honoured):
    jobs.create("j", "voice.ogg", Options())

    least, most = waits(JobError(ErrorCode.SOURCE_UNAVAILABLE, "the server answers 429", retry_after=wish))

    assert honoured <= most
    assert least <= honoured * 1.5


def test_a_time_of_the_actors_own_choosing_is_kept_to_however_far_it_is():
    jobs.create("j", "voice.ogg", Options())

    least, most = waits(Retry("the day's quota is used up", delay=7_200_000))

    assert least <= 7200 <= most


def test_nobody_waits_for_what_redis_will_never_do(monkeypatch):
    tries = []
    monkeypatch.setattr(retries, "PATIENCE", 0)

    def step():
        tries.append(1)
        raise redis.ConnectionError("refused") if len(tries) < 3 else redis.ResponseError("WRONGTYPE no hash")

    with pytest.raises(redis.ResponseError):
        patiently(step)
    assert len(tries) == 3


def test_a_message_whose_job_cannot_be_written_is_kept_among_the_dead_letters():
    store.redis.set(keys.record("j"), "no hash")
    message = MessageProxy(Message("transcribe", "transcribe", ("j",), {}, {}, message_id="j"))

    with pytest.raises(redis.ResponseError):
        Retries().after_process_message(None, message, exception=JobError(ErrorCode.UNDECODABLE, "no"))

    assert message.failed


def test_a_late_twin_that_fails_leaves_no_dead_letter_of_a_job_that_goes_on():
    jobs.create("j", "voice.ogg", Options())
    jobs.finish("j", "decode", {"audio": {}})

    assert not fail(JobError(ErrorCode.UNDECODABLE, "no"), stage="decode").failed

    assert jobs.get("j").status == "decoded"


@pytest.mark.parametrize("stage", ["transcribe", "enrich"])
def test_a_message_of_a_later_version_is_refused_as_such(stage):
    import importlib

    actor = getattr(importlib.import_module(f"actors.{stage}"), stage)
    jobs.create("j", "voice.ogg", Options())

    with pytest.raises(JobError) as raised:
        actor.fn("j", schema=2)

    assert raised.value.code == "unsupported_schema"


def test_the_windows_of_a_cancelled_job_that_still_wait_are_dropped(monkeypatch, tmp_path):
    from concurrent.futures import Future

    from actors import transcribe
    from pipeline.transcribe import audio

    future, submitted = Future(), threading.Event()
    engine = SimpleNamespace(alive=True, submit=lambda *_: submitted.set() or future)
    monkeypatch.setattr(transcribe, "_engine", engine)
    monkeypatch.setattr(transcribe, "WATCH", 0.01)
    monkeypatch.setattr(audio, "load", lambda data: data)
    (tmp_path / "a.flac").write_bytes(b"x")
    audio.put("j", tmp_path / "a.flac")
    jobs.create("j", "voice.ogg", Options())
    jobs.finish("j", "decode", {"audio": {}})
    thread = threading.Thread(target=transcribe.transcribe.fn, args=("j",))
    thread.start()
    assert submitted.wait(10)

    jobs.cancel("j")
    thread.join(10)

    assert future.cancelled()
    assert not thread.is_alive()
    assert queues.depths()["enrich"].waiting == 0
