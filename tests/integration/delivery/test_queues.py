"""Dead letters, presence, backpressure and the sweeper, against a real Redis."""

import argparse
import json
import time
from types import SimpleNamespace

import pytest
import redis
from dramatiq import Message
from live import audio, current, jobs, queues, store, workers

from actors import decode
from actors.broker import Brake, enqueue_stage, for_process
from actors.consumer import acks_key
from cli import dead
from config import settings
from pipeline import sweeper
from voicemill import status
from voicemill.errors import JobError, Refused
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import UNREADABLE, job_of
from voicemill.store.workers import SILENCE

pytestmark = pytest.mark.usefixtures("redis_url")


def die(job_id, stage, code="undecodable"):
    """Fail a job and put its message among the dead letters, as a worker does."""
    broker = for_process(stage)
    jobs.fail(job_id, stage, JobError(code, "no"))
    message = Message(stage, stage, (job_id,), {}, {"redis_message_id": f"r-{job_id}"}, message_id=job_id)
    broker.do_enqueue(stage, f"r-{job_id}", message.encode())
    broker.do_fetch(stage, 1)
    broker.do_nack(stage, f"r-{job_id}")


def letter(job_id):
    return next(found for found in queues.dead_letters() if found.job_id == job_id)


def test_a_dead_letter_says_which_job_died_where_and_of_what():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")

    found = letter("j")

    assert (found.stage, found.code, found.reason) == ("decode", "undecodable", "no")
    assert abs(found.at - time.time()) < 5
    assert list(queues.dead_letters("enrich")) == []
    assert queues.depths()["decode"].dead == 1


def test_dead_letters_are_found_by_their_job_and_by_which_died_last():
    for number, stage in enumerate(("decode", "enrich", "decode")):
        jobs.create(f"j{number}", "voice.ogg", Options())
        die(f"j{number}", stage)
        store.redis.zadd(keys.queue(stage, ".XQ"), {f"r-j{number}": 1000 + number})

    assert [found.job_id for found in queues.last_dead_letters(2)] == ["j2", "j1"]
    assert queues.dead_letter("enrich", "j1") == letter("j1")
    assert queues.dead_letter("decode", "j1") is None


def test_a_dead_letter_whose_id_names_another_key_of_a_job_hides_no_others():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    store.redis.zadd(keys.queue("decode", ".XQ"), {"r-odd": 1000})
    store.redis.hset(keys.queue("decode", ".XQ.msgs"), "r-odd", json.dumps({"message_id": "j:events"}))

    assert [found.job_id for found in queues.dead_letters()] == [UNREADABLE, "j"]


def run_dead(*words):
    """`dead`, as it is typed."""
    parser = argparse.ArgumentParser()
    dead.configure(parser)
    return dead.run(parser.parse_args(words))


@pytest.mark.parametrize(("age", "chosen"), [("--older", "yesterday"), ("--newer", "now")], ids=["longer ago", "since"])
def test_dead_letters_are_chosen_by_their_age(age, chosen, capsys):
    for name in ("yesterday", "now"):
        jobs.create(name, "voice.ogg", Options())
        die(name, "decode")
    store.redis.zadd(keys.queue("decode", ".XQ"), {"r-yesterday": (time.time() - 86400) * 1000})

    assert run_dead("show", age, "12") == 0

    assert [shown["job"] for shown in json.loads(capsys.readouterr().out)] == [chosen]


def test_an_age_of_0_narrows_down_to_all():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    store.redis.zadd(keys.queue("decode", ".XQ"), {"r-j": (time.time() - 1) * 1000})

    assert run_dead("drop", "--older", "0") == 0

    assert list(queues.dead_letters()) == []


@pytest.mark.parametrize(
    ("action", "done"),
    [("list", "j  decode"), ("show", '"job": "j"'), ("retry", "j: queued for decode"), ("drop", "1 dropped")],
)
def test_an_id_without_a_dead_letter_is_told_while_the_others_are_served(action, done, capsys):
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")

    assert run_dead(action, "typo", "j", "--code", "undecodable") == 4

    told = capsys.readouterr()
    assert told.err == "no dead letter of job 'typo' matches\n"
    assert done in told.out


@pytest.mark.parametrize(
    ("typed", "said"),
    [("undecodeable", "near it are undecodable"), ("xyz", "docs/reference/errors.md has them all")],
)
def test_a_code_that_does_not_exist_is_wrong_usage_and_near_ones_are_named(typed, said, capsys):
    with pytest.raises(SystemExit) as raised:
        run_dead("drop", "--code", typed)

    assert raised.value.code == 2
    assert f"{typed!r} is no error code: {said}" in capsys.readouterr().err
    assert run_dead("drop", "--code", "unknown") == 0  # of those whose record is gone


@pytest.mark.parametrize(
    ("failed_in", "audio", "transcript", "goes_on_in"),
    [
        ("decode", False, False, "decode"),
        ("transcribe", True, False, "transcribe"),
        ("transcribe", False, False, "decode"),  # its audio has expired
        ("enrich", False, True, "enrich"),
        ("transcribe", False, True, "enrich"),  # a twin had made the transcript
    ],
)
def test_a_revived_job_goes_on_where_its_earlier_results_allow(tmp_path, failed_in, audio, transcript, goes_on_in):
    jobs.create("j", "voice.ogg", Options())
    if failed_in != "decode":
        jobs.finish("j", "decode", {"audio": {}})
    if audio:
        (tmp_path / "a.flac").write_bytes(b"x")
        audio.put("j", tmp_path / "a.flac")
    if transcript:
        store.redis.hset(keys.record("j"), "transcript", json.dumps({"text": "Hello."}))
    die("j", failed_in)

    assert queues.revive(letter("j")) == goes_on_in

    job = jobs.get("j")
    assert job.error is None
    assert not job.ended
    assert job.stages[goes_on_in].attempts == 0


def test_a_job_that_is_gone_or_ended_otherwise_is_not_revived():
    jobs.create("gone", "voice.ogg", Options())
    die("gone", "decode")
    jobs.delete("gone")
    jobs.create("again", "voice.ogg", Options())
    die("again", "decode")
    jobs.restart("again", "decode")
    jobs.cancel("again")

    assert queues.revive(letter("gone")) is None
    assert queues.revive(letter("again")) is None
    for found in list(queues.dead_letters()):
        queues.drop(found)
    assert list(queues.dead_letters()) == []


def test_a_sender_and_the_settings_have_the_same_limits():
    fields = settings.Settings.model_fields

    assert fields["max_queued"].default == queues.MAX_QUEUED
    assert fields["max_handoff_bytes"].default == audio.MAX_HANDOFF_BYTES


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


def test_no_message_is_sent_where_it_could_not_be_checked(monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "create", broken)
    with pytest.raises(Refused, match="internal: the message could not be checked: ZeroDivisionError"):
        decode.send("voice.ogg")

    assert store.redis.hlen(keys.queue("decode", ".msgs")) == 0


@pytest.mark.parametrize("variable", ["MAX_QUEUED", "MAX_HANDOFF_BYTES", "RESULT_TTL", "REDIS_URL"])
def test_sending_is_refused_where_the_senders_environment_makes_no_sense(monkeypatch, variable):
    monkeypatch.setenv(variable, "abc")

    with pytest.raises(Refused, match=variable) as raised:
        decode.send("voice.ogg")

    assert raised.value.code == "invalid_settings"


def test_sending_is_refused_while_the_handoff_store_is_full(monkeypatch):
    audio.upload(b"x" * 1000)
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "1000")

    with pytest.raises(Refused, match="MAX_HANDOFF_BYTES is 1000"):
        decode.send("voice.ogg")


def announce(stage, silent=0.0, device=""):
    """Write what a worker's beat writes."""
    said = {"host": "host", "pid": 1, "stages": [stage], "since": time.time() - 100, "device": device, "gpus": []}
    client = store.redis
    client.hset(keys.WORKERS, f"broker-{stage}", json.dumps(said))
    client.zadd(keys.HEARTBEATS, {f"broker-{stage}": (time.time() - silent) * 1000})


def test_stages_without_a_live_worker_are_missed(caplog):
    announce("decode")
    announce("transcribe", silent=SILENCE + 1)

    assert workers.missing() == ["transcribe", "enrich"]
    decode.broker.middleware[0]._next_look = 0.0
    decode.send("voice.ogg")
    assert "No live worker consumes the transcribe stage" in caplog.text


def test_a_job_whose_message_vanished_is_ended_as_lost_and_others_are_left_alone():
    lost = decode.send("lost.ogg").message_id
    decode.broker.do_fetch("decode", 1)
    store.redis.delete(keys.queue("decode", ".msgs"))  # as an eviction would
    waiting = decode.send("waiting.ogg").message_id
    delayed = decode.send_with_options(args=("delayed.ogg",), delay=60_000).message_id
    done = decode.send("done.ogg").message_id
    jobs.cancel(done)

    assert sweeper.sweep(after=0) == [lost]

    assert (jobs.get(lost).status, jobs.get(lost).error["code"]) == ("failed", "lost")
    assert {jobs.get(job_id).status for job_id in (waiting, delayed)} == {"queued"}


def test_a_summary_that_no_worker_writes_is_waited_for_no_longer_than_the_deadline():
    """As where a stage has no worker: the job is done, and its message will come to nothing."""
    late, early, untouched = (decode.send(name).message_id for name in ("late.ogg", "early.ogg", "untouched.ogg"))
    for job_id in (late, early):
        jobs.finish(job_id, "transcribe", {"transcript": {"text": "Hello."}})
    long_ago = time.time() - settings.get().enrich_deadline - 1
    store.redis.hset(keys.record(late), "enrich.queued_at", long_ago)

    assert sweeper.sweep(after=0) == []

    job = jobs.get(late)
    assert (job.status, job.error, job.enrichment_error["code"]) == ("done", None, "enrich_deadline")
    assert [jobs.get(job_id).status for job_id in (early, untouched)] == ["transcribed", "queued"]


@pytest.mark.parametrize("suffix", ["", ".DQ"])
def test_a_message_whose_list_or_place_in_a_workers_hands_was_evicted_is_queued_again(suffix):
    delay = 60_000 if suffix else None
    in_hand, waiting = (decode.send_with_options(args=("a.ogg",), delay=delay).message_id for _ in range(2))
    broker, client, queue = decode.broker, store.redis, "decode" + suffix
    broker.do_fetch(queue, 1)
    acks = f"{keys.NAMESPACE}:__acks__.{broker.broker_id}.{queue}"

    assert sweeper.sweep(after=0) == []
    assert (client.llen(keys.queue(queue)), client.scard(acks)) == (1, 1)
    client.delete(acks)
    assert sweeper.sweep(after=0) == []
    assert client.llen(keys.queue(queue)) == 2
    client.delete(keys.queue(queue))
    assert sweeper.sweep(after=0) == []

    found = {job_of(body) for body in broker.do_fetch(queue, 9)}
    assert found == {in_hand, waiting}


def test_a_job_whose_killer_of_a_message_is_a_dead_letter_already_is_no_lost_one():
    job_id = decode.send("poison.ogg").message_id
    client, broker = store.redis, decode.broker
    (redis_id,) = client.lrange(keys.queue("decode"), 0, -1)
    body = client.hget(keys.queue("decode", ".msgs"), redis_id)
    client.delete(keys.queue("decode"), keys.queue("decode", ".msgs"))
    broker.do_enqueue("decode", redis_id.decode() + "~3", body)  # what actors/beat.lua makes of it
    broker.do_fetch("decode", 1)
    broker.do_nack("decode", redis_id.decode() + "~3")

    assert sweeper.sweep(after=0) == [job_id]

    assert jobs.get(job_id).error["code"] == "worker_killed"
    assert [found.code for found in queues.dead_letters()] == ["worker_killed"]


def test_audio_that_finds_no_place_in_an_empty_store_either_is_refused_for_good(monkeypatch):
    audio.demand_space(1000)
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "999")

    with pytest.raises(JobError) as raised:
        audio.demand_space(1000)

    assert (raised.value.code, raised.value.retryable) == ("handoff_too_large", False)
    monkeypatch.setenv("HANDOFF_URL", "file:///anywhere")
    monkeypatch.setenv("HANDOFF_URL_FROM", "1000")
    audio.demand_space(1000)


def test_a_dead_letter_that_the_full_system_has_no_room_for_stays_and_its_job_too(monkeypatch, capsys):
    from actors.broker import enqueue_again

    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    decode.send("another.ogg")
    monkeypatch.setenv("MAX_QUEUED", "1")

    with pytest.raises(Refused, match="MAX_QUEUED is 1"):
        enqueue_again(letter("j"))

    assert dead._retry([letter("j")]) == 1
    assert "j: not retried: system_full" in capsys.readouterr().out
    assert jobs.get("j").status == "failed"
    monkeypatch.setenv("MAX_QUEUED", "2")
    assert enqueue_again(letter("j")) == "decode"


def test_what_a_worker_of_a_later_version_says_besides_hides_nobody():
    announce("decode")
    said = json.loads(store.redis.hget(keys.WORKERS, "broker-decode"))
    store.redis.hset(keys.WORKERS, "broker-decode", json.dumps(said | {"mood": "good"}))

    assert [worker.stages for worker in workers.alive()] == [["decode"]]


def test_a_sweep_reads_waiting_jobs_a_page_at_a_time(monkeypatch):
    client = store.redis
    for _ in range(300):
        decode.send("waiting.ogg")
    sent = []
    original = redis.Connection.send_packed_command

    def counted(line, *arguments, **options):
        sent.append(1)
        return original(line, *arguments, **options)

    monkeypatch.setattr(redis.Connection, "send_packed_command", counted)
    monkeypatch.setattr(sweeper, "PAGE", 100)
    before = time.time()

    assert sweeper.sweep(after=0) == []

    assert len(sent) < 50  # round trips
    changed = client.zrange(keys.UNFINISHED, 0, -1, withscores=True)
    assert len(changed) == 300
    assert all(at >= before for _, at in changed)


def test_a_sweep_ends_with_its_time_and_the_next_one_continues_with_the_oldest_jobs(monkeypatch):
    job_ids = [decode.send("waiting.ogg").message_id for _ in range(6)]
    client = store.redis
    client.zadd(keys.UNFINISHED, {job_id: number for number, job_id in enumerate(job_ids)})
    now, postpone = [0.0], sweeper._postpone

    def postpone_slowly(page):
        postpone(page)
        now[0] += 0.7 * sweeper.BUDGET

    monkeypatch.setattr(sweeper, "PAGE", 2)
    monkeypatch.setattr(sweeper, "_postpone", postpone_slowly)
    monkeypatch.setattr(sweeper, "time", SimpleNamespace(time=time.time, monotonic=lambda: now[0]))

    sweeper.sweep()

    left = [name.decode() for name in client.zrange(keys.UNFINISHED, 0, -1)[:2]]
    assert left == job_ids[4:]


def test_one_worker_sweeps_at_a_time_and_a_fresh_job_is_not_looked_for(monkeypatch):
    jobs.create("j", "voice.ogg", Options())
    assert sweeper.sweep() == []
    monkeypatch.setattr(sweeper, "_next", 0.0)
    store.redis.set(sweeper.LOCK, "another", px=5000)
    monkeypatch.setattr(sweeper, "AFTER", 0.0)

    sweeper.sweep_when_due()

    assert jobs.get("j").status == "queued"


def test_the_status_counts_what_waits_and_computes_percentiles_of_what_was_done():
    for number in range(4):
        jobs.create(f"j{number}", "voice.ogg", Options())
        jobs.begin(f"j{number}", "decode", "host:1")
        jobs.finish(f"j{number}", "decode", {"audio": {}})
    enqueue_stage(for_process("decode"), "transcribe", "j0")
    announce("transcribe", device="NVIDIA A10")

    now = status.read(current())

    assert now.unfinished == 4
    assert now.stages["decode"].done_last_minute == 4
    assert now.stages["decode"].work.p95 >= now.stages["decode"].work.p50 >= 0
    assert now.stages["transcribe"].depth.waiting == 1
    assert now.stages["transcribe"].oldest_waiting < 5
    assert now.stages["transcribe"].workers[0].device == "NVIDIA A10"
    assert now.unattended == ["decode", "enrich"]


def test_the_oldest_message_is_found_at_the_tail_where_it_was_put_back():
    decode.send("first.ogg")
    decode.broker.do_fetch("decode", 1)
    (taken,) = store.redis.smembers(acks_key(decode.broker, "decode"))
    body = json.loads(store.redis.hget(keys.queue("decode", ".msgs"), taken))
    body["message_timestamp"] -= 60_000
    store.redis.hset(keys.queue("decode", ".msgs"), taken, json.dumps(body))
    decode.send("second.ogg")
    assert queues.oldest("decode") < 30

    decode.broker.do_requeue("decode", taken)

    assert store.redis.lindex(keys.queue("decode"), -1) == taken
    assert 60 <= queues.oldest("decode") < 90


def test_a_message_of_an_earlier_version_without_a_schema_is_understood_and_of_a_later_one_refused():
    from actors.admission import admit

    assert admit(("voice.ogg",), {"language": "ko"})[1].language == "ko"
    assert admit(("voice.ogg",), {"language": "ko", "schema": 1})[1].language == "ko"
    with pytest.raises(JobError) as raised:
        admit(("voice.ogg",), {"schema": 2})
    assert raised.value.code == "unsupported_schema"


def test_decode_goes_on_while_what_fills_the_store_is_what_it_works_off(tmp_path, monkeypatch):
    monkeypatch.setattr(handoff, "SPARING", 0)
    (tmp_path / "a.flac").write_bytes(b"x" * 1000)
    jobs.create("j", audio.upload(b"x" * 1000), Options())
    monkeypatch.setenv("MAX_HANDOFF_BYTES", "1000")
    assert Brake()("decode")

    audio.put("j", tmp_path / "a.flac")
    assert not Brake()("decode")


@pytest.mark.parametrize("message_id", ["j:events", 7, "\ud800"])
def test_an_id_that_is_the_key_of_another_job_or_no_text_is_refused(message_id):
    jobs.create("j", "voice.ogg", Options())

    with pytest.raises(Refused, match=r"message_id is .*: it takes text without a colon") as raised:
        decode.broker.enqueue(decode.message("voice.ogg").copy(message_id=message_id))

    assert raised.value.code == "invalid_options"
    assert queues.depths()["decode"].waiting == 0
