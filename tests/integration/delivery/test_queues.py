"""What is sent and what is refused, backpressure, and what `status` counts, against a real Redis."""

import json
import time
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from live import audio, current, jobs, queues, store, workers

from actors.backpressure import Backpressure
from actors.broker import Broker
from config import settings
from voicemill import decode, status
from voicemill.admission import Sender, admit
from voicemill.config import NUMBERS, ClientConfig
from voicemill.errors import ErrorCode, JobError, Refused
from voicemill.options import Options
from voicemill.store import Store, keys
from voicemill.store.workers import SILENCE

pytestmark = pytest.mark.usefixtures("redis_url")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_sender_and_the_settings_have_the_same_limits(name):
    assert settings.Settings.model_fields[name].default == getattr(ClientConfig(), name)


def test_sending_into_a_full_system_is_refused_at_once_and_leaves_no_job(monkeypatch):
    decode.send("voice.ogg")
    monkeypatch.setenv("MAX_QUEUED", "1")

    with pytest.raises(Refused, match="1 messages wait for decode, and MAX_QUEUED is 1") as raised:
        decode.send("voice.ogg")

    assert raised.value.code == "system_full"
    assert store.redis.zcard(keys.UNFINISHED) == 1


@pytest.mark.parametrize(
    ("source", "options"),
    [("\ud800", {}), ("voice.ogg", {"callback_url": "https://x/\ud800"}), ("voice.ogg", {"stream": 10**5000})],
)
def test_what_no_record_can_hold_is_refused_and_no_message_is_sent(source, options):
    with pytest.raises(Refused, match="invalid_options"):
        decode.send(source, **options)

    assert store.redis.hlen(keys.queue("decode", ".msgs")) == 0


def test_no_message_is_sent_if_checking_it_fails():
    broken = SimpleNamespace(queues=queues, jobs=Mock(create=Mock(side_effect=ZeroDivisionError)), workers=workers)

    with pytest.raises(ZeroDivisionError):
        Sender(broken).send("j", ("voice.ogg",), {})

    assert store.redis.hlen(keys.queue("decode", ".msgs")) == 0


@pytest.mark.parametrize("variable", ["MAX_QUEUED", "MAX_HANDOFF_BYTES", "RESULT_TTL", "REDIS_URL"])
def test_sending_is_refused_if_the_sender_s_environment_is_invalid(monkeypatch, variable):
    monkeypatch.setenv(variable, "abc")

    with pytest.raises(Refused, match=variable) as raised:
        decode.send("voice.ogg")

    assert raised.value.code == "invalid_settings"


def test_sending_is_refused_while_the_handoff_store_is_full(monkeypatch):
    audio.upload(b"x" * 1000)
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "1000")

    with pytest.raises(Refused, match="MAX_HANDOFF_BYTES is 1000"):
        decode.send("voice.ogg")


@pytest.mark.parametrize("message_id", ["j:events", 7, "\ud800"])
def test_an_id_that_is_the_key_of_another_job_or_not_text_is_refused(message_id):
    jobs.create("j", "voice.ogg", Options())

    with pytest.raises(Refused, match=r"message_id is .*; it must be text without a colon") as raised:
        decode.broker.enqueue(decode.message("voice.ogg").copy(message_id=message_id))

    assert raised.value.code == "invalid_options"
    assert queues.depths()["decode"].waiting == 0


def announce(stage, silent=0.0, device=""):
    """Write what a worker's heartbeat writes."""
    said = {"host": "host", "pid": 1, "stages": [stage], "since": time.time() - 100, "device": device, "gpus": []}
    client = store.redis
    client.hset(keys.WORKERS, f"broker-{stage}", json.dumps(said))
    client.zadd(keys.HEARTBEATS, {f"broker-{stage}": (time.time() - silent) * 1000})


def test_a_sender_is_warned_of_stages_without_a_live_worker(caplog):
    announce("decode")
    announce("transcribe", silent=SILENCE + 1)

    assert workers.missing() == ["transcribe", "enrich"]
    Sender(current()).send("j", ("voice.ogg",), {})

    assert "No live worker consumes the transcribe stage" in caplog.text
    assert "the decode stage" not in caplog.text


def test_a_worker_of_a_later_version_that_says_more_hides_nobody():
    announce("decode")
    said = json.loads(store.redis.hget(keys.WORKERS, "broker-decode"))
    store.redis.hset(keys.WORKERS, "broker-decode", json.dumps(said | {"mood": "good"}))

    assert [worker.stages for worker in workers.alive()] == [["decode"]]


def test_audio_that_would_not_fit_into_an_empty_store_is_refused_for_good(redis_url):
    def store_with(**limits):
        return Store(ClientConfig(current().config.address, **limits))

    audio.demand_space(1000)

    with pytest.raises(JobError) as raised:
        store_with(max_handoff_bytes=999).audio.demand_space(1000)

    assert (raised.value.code, raised.value.code.retryable) == (ErrorCode.HANDOFF_TOO_LARGE, False)
    with_files = {"handoff_url": "file:///anywhere", "handoff_url_from": 1000}
    store_with(max_handoff_bytes=999, **with_files).audio.demand_space(1000)


def test_the_status_counts_what_waits_and_computes_percentiles_of_what_was_done():
    for number in range(4):
        jobs.create(f"j{number}", "voice.ogg", Options())
        token = jobs.begin(f"j{number}", "decode", "host:1")
        jobs.finish(f"j{number}", "decode", {"audio": {}}, token=token)
        jobs.timing(f"j{number}", "decode")
    announce("transcribe", device="NVIDIA A10")

    now = status.read(current())

    assert now.unfinished == 4
    assert now.stages["decode"].done_last_minute == 4
    assert now.stages["decode"].work.p95 >= now.stages["decode"].work.p50 >= 0
    assert now.stages["transcribe"].depth.waiting == 4
    assert now.stages["transcribe"].oldest_waiting < 5
    assert now.stages["transcribe"].workers[0].device == "NVIDIA A10"
    assert now.unattended == ["decode", "enrich"]


def test_the_oldest_message_is_found_at_the_tail_where_it_was_put_back():
    broker = Broker(current())
    decode.send("first.ogg")
    broker.do_fetch("decode", 1)
    (taken,) = store.redis.smembers(keys.acks(broker.broker_id, "decode"))
    body = json.loads(store.redis.hget(keys.queue("decode", ".msgs"), taken))
    body["message_timestamp"] -= 60_000
    store.redis.hset(keys.queue("decode", ".msgs"), taken, json.dumps(body))
    decode.send("second.ogg")
    assert queues.oldest("decode") < 30

    broker.do_requeue("decode", taken)

    assert store.redis.lindex(keys.queue("decode"), -1) == taken
    assert 60 <= queues.oldest("decode") < 90


def test_a_message_without_a_schema_or_of_an_earlier_one_is_understood_and_a_later_one_refused():
    for version in ({}, {"schema": 1}, {"schema": 2}):
        assert admit(("voice.ogg",), {"language": "ko"} | version)[1].language == "ko"
    with pytest.raises(JobError) as raised:
        admit(("voice.ogg",), {"schema": 3})
    assert raised.value.code == "unsupported_schema"


def test_decode_continues_while_the_store_is_full_of_what_it_works_off(tmp_path):
    def may_decode():
        return Backpressure(Store(ClientConfig(current().config.address, max_handoff_bytes=1000))).may_take("decode")

    (tmp_path / "a.flac").write_bytes(b"x" * 1000)
    jobs.create("j", audio.upload(b"x" * 1000), Options())
    assert may_decode()

    audio.put("j", tmp_path / "a.flac")
    assert not may_decode()
