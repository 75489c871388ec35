"""What a message that failed leads to: another attempt, or the end of its job."""

import json
import time
from unittest.mock import Mock

import pytest
import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from live import current, jobs, queues, store
from structlog.testing import capture_logs

from actors.attempt import Attempt
from actors.broker import Broker
from actors.retries import LONGEST_WISH, MAX_RETRIES, MIN_BACKOFF, Retries, patiently
from actors.selftest import SelfTest
from pipeline.stage import RetryLater
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import SCHEMA

pytestmark = pytest.mark.usefixtures("redis_url")


def fail(error, tried=0, stage="transcribe", attempt=None):
    """Let a message's work end with an error after so many retries; return the message."""
    message = MessageProxy(Message(stage, stage, ("j",), {}, {"retries": tried}, message_id="j"))
    retries = Retries(current(), attempt or Attempt())
    retries.after_process_message(Broker(current()), message, exception=error)
    return message


def waits(error, tried=0):
    """Return the least and the most that the next attempt at a job's message can have been delayed by (seconds)."""
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

    retries = Retries(current(), Attempt(), unfit)
    retries.after_process_message(Broker(current()), message, exception=JobError(ErrorCode(code), "no"))
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
def test_a_command_that_redis_refuses_for_good_is_retried_no_more_often_than_other_faults(error):
    jobs.create("j", "voice.ogg", Options())

    with capture_logs() as logged:
        assert not fail(error, MAX_RETRIES - 1).failed
    assert [line["exc_info"] for line in logged if line["log_level"] == "error"] == [error]
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
def test_what_redis_may_do_in_a_while_is_retried_for_as_long_as_it_takes(error):
    jobs.create("j", "voice.ogg", Options())

    with capture_logs() as logged:
        assert not fail(error, MAX_RETRIES).failed

    assert not [line for line in logged if line["log_level"] == "error"]
    assert jobs.get("j").status == "queued"
    assert queues.depths()["transcribe"].delayed == 1


def test_each_delay_is_twice_the_last_and_together_they_outlast_a_minute():
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
def test_a_server_s_retry_after_is_honoured_up_to_a_limit(wish, honoured):
    jobs.create("j", "voice.ogg", Options())

    least, most = waits(JobError(ErrorCode.SOURCE_UNAVAILABLE, "the server answers 429", retry_after=wish))

    assert honoured <= most
    assert least <= honoured * 1.5


def test_a_delay_that_the_stage_asks_for_is_kept_however_long_it_is():
    jobs.create("j", "voice.ogg", Options())

    least, most = waits(RetryLater(JobError(ErrorCode.ENRICH_QUOTA_EXHAUSTED, "the day's quota is used up"), 7200.0))

    assert least <= 7200 <= most


def test_nothing_waits_for_a_command_that_redis_refuses_for_good():
    tries = []

    def step():
        tries.append(1)
        raise redis.ConnectionError("refused") if len(tries) < 3 else redis.ResponseError("WRONGTYPE no hash")

    with pytest.raises(redis.ResponseError):
        patiently(step, pause=0)
    assert len(tries) == 3


def test_a_message_whose_job_cannot_be_written_is_kept_among_the_dead_letters():
    store.redis.set(keys.record("j"), "no hash")
    message = MessageProxy(Message("transcribe", "transcribe", ("j",), {}, {}, message_id="j"))

    with pytest.raises(redis.ResponseError):
        Retries(current(), Attempt()).after_process_message(
            None, message, exception=JobError(ErrorCode.UNDECODABLE, "no")
        )

    assert message.failed


def test_a_late_attempt_that_fails_leaves_no_dead_letter_of_a_job_that_has_moved_on():
    jobs.create("j", "voice.ogg", Options())
    jobs.finish("j", "decode", {"audio": {}})

    assert not fail(JobError(ErrorCode.UNDECODABLE, "no"), stage="decode").failed

    assert jobs.get("j").status == "decoded"


def test_a_stale_attempt_that_fails_does_not_end_the_job():
    jobs.create("j", "voice.ogg", Options())
    attempt = Attempt()
    attempt.token = jobs.begin("j", "decode", "host:1")
    jobs.begin("j", "decode", "host:2")

    assert not fail(JobError(ErrorCode.UNDECODABLE, "no"), stage="decode", attempt=attempt).failed

    assert jobs.get("j").status == "decoding"


def test_a_retried_message_carries_its_job_s_id_alone():
    jobs.create("j", "voice.ogg", Options())
    keywords = {"language": "ko", "prompt": "Anna", "schema": 1}
    message = MessageProxy(Message("decode", "decode", ("https://example.com/?token=1",), keywords, {}, message_id="j"))

    error = JobError(ErrorCode.SOURCE_UNAVAILABLE, "no")
    Retries(current(), Attempt()).after_process_message(Broker(current()), message, exception=error)

    (body,) = store.redis.hvals(keys.queue("decode", ".DQ.msgs"))
    again = Message.decode(body)
    assert (again.args, again.kwargs, again.message_id) == (("j",), {"schema": SCHEMA}, "j")
    assert set(again.options) == {"redis_message_id", "eta", "retries"}
