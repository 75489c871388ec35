"""Dead letters: how they are found, retried and dropped, against a real Redis."""

import json
import time

import pytest
from dying import dead_letter, die
from live import audio, jobs, queues, store

from voicemill import decode
from voicemill.errors import JobError
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.queue import UNREADABLE

pytestmark = pytest.mark.usefixtures("redis_url")


def test_a_dead_letter_says_which_job_failed_where_and_why():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")

    found = dead_letter("j")

    assert (found.stage, found.code, found.reason) == ("decode", "undecodable", "no")
    assert abs(found.at - time.time()) < 5
    assert list(queues.dead_letters("enrich")) == []
    assert queues.depths()["decode"].dead == 1


def test_dead_letters_are_found_by_job_and_by_time_of_death():
    for number, stage in enumerate(("decode", "enrich", "decode")):
        jobs.create(f"j{number}", "voice.ogg", Options())
        die(f"j{number}", stage)
        store.redis.zadd(keys.queue(stage, ".XQ"), {f"r-j{number}": 1000 + number})

    assert [found.job_id for found in queues.last_dead_letters(2)] == ["j2", "j1"]
    assert queues.dead_letter("enrich", "j1") == dead_letter("j1")
    assert queues.dead_letter("decode", "j1") is None


def test_a_dead_letter_whose_id_names_another_key_of_a_job_hides_no_others():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    store.redis.zadd(keys.queue("decode", ".XQ"), {"r-odd": 1000})
    store.redis.hset(keys.queue("decode", ".XQ.msgs"), "r-odd", json.dumps({"message_id": "j:events"}))

    assert [found.job_id for found in queues.dead_letters()] == [UNREADABLE, "j"]


@pytest.mark.parametrize(
    ("failed_in", "has_audio", "has_transcript", "resumes_in"),
    [
        ("decode", False, False, "decode"),
        ("transcribe", True, False, "transcribe"),
        ("transcribe", False, False, "decode"),  # its audio has expired
        ("enrich", False, True, "enrich"),
        ("transcribe", False, True, "enrich"),  # another attempt had made the transcript
    ],
)
def test_a_retried_job_resumes_where_its_earlier_results_allow(
    tmp_path, failed_in, has_audio, has_transcript, resumes_in
):
    jobs.create("j", "voice.ogg", Options())
    if failed_in != "decode":
        jobs.finish("j", "decode", {"audio": {}})
    if has_audio:
        (tmp_path / "a.flac").write_bytes(b"x")
        audio.put("j", tmp_path / "a.flac")
    if has_transcript:
        store.redis.hset(keys.record("j"), "transcript", json.dumps({"text": "Hello."}))
    die("j", failed_in)
    before = queues.depths()[resumes_in].waiting

    assert queues.retry(dead_letter("j")) == resumes_in

    job = jobs.get("j")
    assert job.error is None
    assert not job.ended
    assert job.stages[resumes_in].attempts == 0
    assert queues.depths()[resumes_in].waiting == before + 1
    assert list(queues.dead_letters()) == []


def test_a_job_that_is_deleted_or_ended_otherwise_is_not_retried():
    jobs.create("deleted", "voice.ogg", Options())
    die("deleted", "decode")
    kept = dead_letter("deleted")
    jobs.delete("deleted")
    jobs.create("again", "voice.ogg", Options())
    die("again", "decode")
    jobs.restart("again", "decode")
    jobs.cancel("again")

    assert queues.retry(kept) is None
    assert queues.retry(dead_letter("again")) is None
    assert [found.job_id for found in queues.dead_letters()] == ["again"]
    for found in list(queues.dead_letters()):
        queues.drop(found)
    assert list(queues.dead_letters()) == []


def test_a_dead_letter_that_the_full_system_has_no_room_for_stays_and_so_does_its_job(monkeypatch):
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    decode.send("another.ogg")
    monkeypatch.setenv("MAX_QUEUED", "1")

    with pytest.raises(JobError, match="MAX_QUEUED is 1") as raised:
        queues.retry(dead_letter("j"))

    assert raised.value.code == "system_full"
    assert jobs.get("j").status == "failed"
    monkeypatch.setenv("MAX_QUEUED", "2")
    assert queues.retry(dead_letter("j")) == "decode"


def test_a_dead_letter_whose_record_is_gone_says_so():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    store.redis.delete(keys.record("j"))

    found = dead_letter("j")

    assert (found.code, found.reason) == ("unknown", "the job's record has expired")
    assert queues.retry(found) is None
    assert dead_letter("j") == found
