"""The job record, against a real Redis."""

import json
import threading
import time

import pytest
from live import audio, jobs, queues, store

from voicemill.errors import ErrorCode, JobError, UnknownJob
from voicemill.job import Audio
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import job_of, letter
from voicemill.transcript import Transcript

pytestmark = pytest.mark.usefixtures("redis_url")

TRANSCRIPT = {"text": "Hello.", "segments": [], "no_speech": False}
HELLO = Transcript.from_dict(TRANSCRIPT)


def job(job_id="j1", **options):
    jobs.create(job_id, "voice.ogg", Options(**options))
    return job_id


def to_transcribed(job_id):
    jobs.begin(job_id, "decode", "host:1")
    jobs.finish(job_id, "decode", {"audio": {"duration": 1.5}})
    jobs.begin(job_id, "transcribe", "host:2")
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT})


def test_a_job_is_queued_from_the_moment_it_is_created():
    record = jobs.get(job(metadata={"chat": 7}, language="ko"))

    assert record.status == "queued"
    assert record.options.language == "ko"
    assert record.metadata == {"chat": 7}
    assert record.stages["decode"].queued_at == record.created_at


def test_a_job_goes_through_the_states_of_the_contract_and_keeps_what_the_stages_made():
    job_id = job()
    to_transcribed(job_id)
    jobs.begin(job_id, "enrich", "host:3")
    jobs.finish(job_id, "enrich", {"enrichment": {"title": "Greeting"}})

    record = jobs.get(job_id)

    assert record.status == "done"
    assert record.audio == Audio(duration=1.5)
    assert record.transcript == HELLO
    assert record.enrichment.title == "Greeting"
    statuses = [event.status for event in jobs.events(job_id)]
    assert statuses == ["queued", "decoding", "decoded", "transcribing", "transcribed", "enriching", "done"]
    for stage in record.stages.values():
        assert stage.attempts == 1
        assert stage.queued_at <= stage.started_at <= stage.finished_at


def test_the_last_stage_may_be_transcribe():
    job_id = job(enrich=False)
    jobs.begin(job_id, "transcribe", "host:2")
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None)

    assert jobs.get(job_id).status == "done"


def test_a_late_twin_of_a_message_cannot_take_a_job_back():
    job_id = job()
    to_transcribed(job_id)

    assert not jobs.begin(job_id, "decode", "host:9")
    assert not jobs.finish(job_id, "decode", {"audio": {}})
    assert jobs.get(job_id).status == "transcribed"


def test_nor_can_it_end_a_job_that_has_come_further_or_have_its_audio_made_again():
    job_id = job()
    to_transcribed(job_id)

    assert not jobs.fail(job_id, "decode", JobError(ErrorCode.UNDECODABLE, "no"))
    assert not jobs.fail(job_id, "transcribe", JobError(ErrorCode.OUT_OF_MEMORY, "no"))
    assert not jobs.restart(job_id, "decode", expired=True)
    jobs.begin(job_id, "enrich", "host:1")
    assert not jobs.restart(job_id, "decode", expired=True)
    assert jobs.get(job_id).status == "enriching"
    assert jobs.fail(job_id, "enrich", JobError(ErrorCode.INTERNAL, "no"))


@pytest.mark.parametrize(("enrich", "status"), [(True, "transcribed"), (False, "done")])
def test_a_stage_may_finish_a_later_one_too_in_one_step(enrich, status):
    job_id = job(enrich=enrich)
    token = jobs.begin(job_id, "decode", "host:1")
    results = {"audio": {"duplicate_of": "twin"}, "transcript": TRANSCRIPT}

    assert jobs.finish(job_id, "decode", results, token=token, through="transcribe")

    record = jobs.get(job_id)
    assert (record.status, record.transcript, record.audio) == (status, HELLO, Audio(duplicate_of="twin"))
    assert record.stages["decode"].finished_at == record.stages["transcribe"].finished_at
    assert (record.stages["enrich"].queued_at is None) == (not enrich)
    assert store.redis.xlen(keys.events(job_id)) == 3
    assert queues.depths()["enrich"].waiting == int(enrich)


def test_finishing_queues_the_next_stage_in_the_same_step():
    job_id = job()
    token = jobs.begin(job_id, "decode", "host:1")
    assert queues.depths()["transcribe"].waiting == 0

    jobs.finish(job_id, "decode", {"audio": {"duration": 1.5}}, token=token)

    [message] = store.redis.hvals(keys.queue("transcribe", ".msgs"))
    assert json.loads(message)["args"] == [job_id]
    assert job_of(message) == job_id


def test_an_attempt_may_say_twice_that_it_finished_and_queues_one_message():
    job_id = job()
    token = jobs.begin(job_id, "decode", "host:1")

    assert jobs.finish(job_id, "decode", {"audio": {"duration": 1.5}}, token=token)
    assert jobs.finish(job_id, "decode", {"audio": {"duration": 9.9}}, token=token)

    assert jobs.get(job_id).audio.duration == 1.5
    assert queues.depths()["transcribe"].waiting == 1


def test_a_later_attempt_makes_an_earlier_one_stale():
    job_id = job()
    first = jobs.begin(job_id, "decode", "host:1")
    second = jobs.begin(job_id, "decode", "host:2")

    assert not jobs.finish(job_id, "decode", {"audio": {"duration": 1.5}}, token=first)
    assert not jobs.fail(job_id, "decode", JobError(ErrorCode.INTERNAL, "x"), token=first)
    assert jobs.finish(job_id, "decode", {"audio": {"duration": 2.5}}, token=second)
    assert jobs.get(job_id).audio.duration == 2.5


def test_a_restart_makes_the_running_attempt_stale():
    job_id = job()
    token = jobs.begin(job_id, "transcribe", "host:1")

    jobs.restart(job_id, "decode", expired=True)

    assert not jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, token=token)
    assert jobs.get(job_id).status == "queued"
    assert queues.depths()["decode"].waiting == 1


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_a_job_that_has_ended_changes_no_more(end):
    job_id = job()
    if end == "done":
        jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None)
    elif end == "failed":
        jobs.fail(job_id, "decode", JobError(ErrorCode.UNDECODABLE, "no"))
    else:
        jobs.cancel(job_id)

    assert not jobs.begin(job_id, "transcribe", "host:2")
    assert not jobs.finish(job_id, "transcribe", {"transcript": {"text": "other"}})
    assert not jobs.fail(job_id, "enrich", JobError(ErrorCode.INTERNAL, "x"))
    assert not jobs.cancel(job_id)
    assert jobs.get(job_id).status == end


def test_a_failed_job_says_what_failed_where_and_what_to_do():
    job_id = job()
    jobs.fail(job_id, "decode", JobError(ErrorCode.NO_AUDIO_STREAM, "clip.mp4 has one video stream and no sound"))

    error = jobs.get(job_id).error

    assert error.code == "no_audio_stream"
    assert error.stage == "decode"
    assert error.retryable is False
    assert "audio stream" in error.remedy


def test_a_job_without_a_record_cannot_fail_and_gets_none():
    assert not jobs.fail("foreign", "decode", JobError(ErrorCode.INVALID_OPTIONS, "x"))

    with pytest.raises(UnknownJob):
        jobs.get("foreign")


def test_wait_returns_as_soon_as_the_job_ends():
    took = []
    for job_id in map(job, ("j1", "j2", "j3")):  # the machine may stall, but not each time
        end = threading.Timer(0.1, jobs.fail, (job_id, "decode", JobError(ErrorCode.UNDECODABLE, "no")))
        began = time.monotonic()
        end.start()

        record = jobs.wait(job_id, timeout=60)

        took.append(time.monotonic() - began)
        end.join()  # the waiter hears of the end before the thread that wrote it has its answer
        assert record.status == "failed"
    assert min(took) < 2


def test_wait_can_be_content_with_the_transcript():
    job_id = job()
    to_transcribed(job_id)

    assert jobs.wait(job_id, timeout=1, until="transcribed").transcript == HELLO


def test_wait_refuses_what_no_job_comes_to():
    with pytest.raises(ValueError, match="'done' or 'transcribed'"):
        jobs.wait(job(), timeout=1, until="transcript")


def test_wait_gives_up_after_its_time():
    with pytest.raises(TimeoutError, match="still queued"):
        jobs.wait(job(), timeout=0.05)


def test_events_come_live_with_progress_in_between():
    job_id = job()
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(jobs.events(job_id)))
    reader.start()
    jobs.begin(job_id, "transcribe", "host:2")
    jobs.progress(job_id, "transcribe", 1, 3)
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None)
    reader.join(timeout=60)

    assert not reader.is_alive()
    assert [event.status for event in seen] == ["queued", "transcribing", "transcribing", "done"]
    assert seen[2].detail == {"progress": {"done": 1, "total": 3}}


def test_a_retry_is_told_and_forgotten_when_the_stage_begins_again():
    job_id = job()
    jobs.begin(job_id, "decode", "host:1")
    jobs.retrying(job_id, "decode", JobError(ErrorCode.DECODE_TIMEOUT, "slow"), at=2e9)
    assert jobs.get(job_id).stages["decode"].next_retry_at == 2e9

    jobs.begin(job_id, "decode", "host:1")

    stage = jobs.get(job_id).stages["decode"]
    assert (stage.attempts, stage.next_retry_at) == (2, None)


def test_a_failed_job_can_be_started_again_at_its_stage():
    job_id = job()
    to_transcribed(job_id)
    jobs.fail(job_id, "enrich", JobError(ErrorCode.INTERNAL, "x"))

    assert jobs.restart(job_id, "enrich")

    record = jobs.get(job_id)
    assert (record.status, record.error, record.finished_at) == ("transcribed", None, None)
    assert record.transcript == HELLO


def test_events_of_a_job_that_was_tried_again_go_on_after_its_first_end():
    job_id = job(enrich=False)
    jobs.fail(job_id, "decode", JobError(ErrorCode.INTERNAL, "x"))
    jobs.restart(job_id, "decode")
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None)

    assert [event.status for event in jobs.events(job_id)] == ["queued", "failed", "queued", "done"]


def listed(*args, **limits):
    return [each.id for each in jobs.page(*args, **limits)]


def test_jobs_are_listed_by_status_and_owner_the_newest_first():
    for job_id in ("j1", "j2", "j3"):
        jobs.create(job_id, "voice.ogg", Options(), owner="ann" if job_id != "j2" else "bob")
    jobs.fail("j2", "decode", JobError(ErrorCode.INTERNAL, "x"))
    jobs.begin("j1", "decode", "host:1")

    assert listed() == ["j3", "j2", "j1"]
    assert (listed("queued"), listed("decoding"), listed("failed")) == (["j3"], ["j1"], ["j2"])
    assert (listed(owner="ann"), listed(owner="bob"), listed(owner="eve")) == (["j3", "j1"], ["j2"], [])
    assert (listed("failed", owner="bob"), listed("failed", owner="ann")) == (["j2"], [])

    jobs.restart("j2", "decode")
    jobs.delete("j3")
    assert (listed(), listed("failed"), listed("queued")) == (["j2", "j1"], [], ["j2"])


def test_a_list_is_read_page_by_page_also_of_jobs_created_at_the_same_moment():
    for number in range(7):
        jobs.create(f"j{number}", "voice.ogg", Options(), created_at=1000.0 + number // 3)

    pages, last = [], None
    while page := listed(limit=2, before=last):
        pages += page
        last = page[-1]

    assert pages == [f"j{number}" for number in reversed(range(7))]


@pytest.mark.parametrize(("arguments", "error"), [(("fnished",), ValueError), ((None, {"limit": 0}), ValueError)])
def test_a_list_refuses_what_no_job_can_be(arguments, error):
    with pytest.raises(error, match=r"must be|use one of"):
        jobs.page(arguments[0], **(arguments[1] if len(arguments) > 1 else {}))


def test_a_list_after_a_job_that_is_gone_says_so():
    with pytest.raises(UnknownJob):
        jobs.page(before="nobody")


def test_jobs_whose_records_expired_leave_the_indexes():
    for job_id in ("j1", "j2"):
        jobs.create(job_id, "voice.ogg", Options(), owner="ann")
        jobs.cancel(job_id)
    store.redis.delete(keys.record("j1"))
    store.redis.zadd(keys.EXPIRING, {"j1 ann": 1.0})

    assert listed() == ["j2"]
    assert jobs.trim() == 1
    for index in (keys.index(), keys.index("cancelled"), keys.index(None, "ann"), keys.index("cancelled", "ann")):
        assert store.redis.zrange(index, 0, -1) == [b"j2"]


def test_cancelling_removes_the_audio_that_waits(tmp_path):
    job_id = job()
    (tmp_path / "a.flac").write_bytes(b"x" * 1000)
    audio.put(job_id, tmp_path / "a.flac")

    assert jobs.cancel(job_id)

    assert not audio.exists(job_id)


def test_deleting_leaves_nothing_but_a_mark_that_stops_the_queued_message(tmp_path):
    job_id = job()
    (tmp_path / "a.flac").write_bytes(b"x" * 1000)
    audio.put(job_id, tmp_path / "a.flac")

    jobs.delete(job_id)

    client = store.redis
    # Whoever waits for it is told, with its id and no more.
    assert set(client.keys("*")) == {keys.record(job_id).encode(), keys.ARRIVALS.encode()}
    assert client.xrange(keys.ARRIVALS)[0][1] == {b"job": job_id.encode()}
    assert client.hgetall(keys.record(job_id)) == {b"status": b"deleted"}
    jobs.create(job_id, "voice.ogg", Options())  # as from a message that comes late
    with pytest.raises(UnknownJob):
        jobs.get(job_id)


def test_deleting_removes_what_was_uploaded_for_the_job_and_nothing_else():
    sources = [audio.upload(b"x" * 1000), audio.upload(b"y" * 1000)]
    for number, source in enumerate(sources):
        jobs.create(f"j{number}", source, Options())

    jobs.delete("j0")

    with pytest.raises(JobError, match="source_not_found"):
        next(audio.read_upload(sources[0]))
    assert b"".join(audio.read_upload(sources[1])) == b"y" * 1000
    assert audio.total_bytes() < 1500


@pytest.mark.parametrize(
    "ask", [jobs.get, jobs.wait, jobs.cancel, jobs.delete, lambda job_id: list(jobs.events(job_id))]
)
@pytest.mark.parametrize("job_id", ["nobody", "somebody:events", "\udcff"])
def test_an_unknown_job_is_said_to_be_unknown(ask, job_id):
    jobs.create("somebody", "voice.ogg", Options())

    with pytest.raises(UnknownJob, match="never sent, expired or deleted"):
        ask(job_id)


def test_a_record_is_kept_for_the_result_ttl_after_the_end_and_until_then_for_ever(monkeypatch):
    monkeypatch.setenv("RESULT_TTL", "60")
    job_id = job()
    kept = (keys.record(job_id), keys.events(job_id))
    assert [store.redis.pttl(key) for key in kept] == [-1, -1]

    jobs.fail(job_id, "decode", JobError(ErrorCode.INTERNAL, "x"))
    assert all(55_000 < store.redis.pttl(key) <= 60_000 for key in kept)

    jobs.restart(job_id, "decode")
    assert [store.redis.pttl(key) for key in kept] == [-1, -1]


def test_the_tombstone_of_a_deleted_job_outlives_every_message_of_it():
    jobs.delete(job())

    assert store.redis.pttl(keys.record("j1")) > 7 * 86400 * 1000


def test_deleting_takes_dead_letters_and_delayed_messages_along():
    for job_id in ("j1", "j2"):
        job(job_id)
        dead, delayed = letter("decode", job_id), letter("decode", job_id, delay=60)
        store.redis.hset(keys.queue("decode", ".XQ.msgs"), dead.redis_id, dead.body)
        store.redis.zadd(keys.queue("decode", ".XQ"), {dead.redis_id: 1})
        queues.push(delayed)

    jobs.delete("j1")

    depth = queues.depths()["decode"]
    assert (depth.dead, depth.delayed) == (1, 1)
    assert store.redis.llen(keys.queue("decode", ".DQ")) == 1
    assert queues.dead_letter("decode", "j2") is not None


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://bucket/voice.ogg?X-Signature=abc", "https://bucket/voice.ogg"),
        ("https://user:pw@host/v.ogg#t", "https://host/v.ogg"),
        ("data:audio/ogg;base64,AAAA", "data:…"),
        ("inbox/voice.ogg", "inbox/voice.ogg"),
        ("upload:4f", "upload:4f"),
        ("https://user:pw@[::1]:8443/a@b.ogg", "https://[::1]:8443/a@b.ogg"),
        ("https://host/v.ogg?mail=a@b", "https://host/v.ogg"),
        ("https:user:pw@host/v.ogg?X-Signature=abc", "https:host/v.ogg"),
        ("https://user:p/w@host/v.ogg", "https:host/v.ogg"),
        ("https://user:p?w#@host/v.ogg", "https:host/v.ogg"),
        ("simplecache::https://user:pw@host/v.ogg?a=b", "simplecache:host/v.ogg"),
        ("simplecache::s3://bucket/v.ogg", "simplecache::s3://bucket/v.ogg"),
        (" https://user:pw@host/v.ogg", " https://host/v.ogg"),
    ],
)
def test_a_record_shows_its_source_without_secrets(source, shown):
    jobs.create("s", source, Options())

    assert jobs.get("s").source == shown
    assert jobs.raw_source("s") == source
