"""The client against a real Redis: what a backend calls."""

import os
import threading

import pytest
from live import jobs, queues, store

from voicemill import Client, ErrorCode, JobError, Refused, UnknownJob
from voicemill.store import keys
from voicemill.store.queue import letter

TRANSCRIPT = {"text": "Hello.", "segments": [], "no_speech": False}


@pytest.fixture
def client(redis_url):
    with Client(redis_url) as made:
        yield made


def finish(job_id):
    jobs.finish(job_id, "transcribe", {"transcript": TRANSCRIPT}, following=None)


def dead(job_id):
    """Have a job fail for good, as a worker does it."""
    jobs.fail(job_id, "decode", JobError(ErrorCode.UNDECODABLE, "no"))
    message = letter("decode", job_id)
    store.redis.hset(keys.queue("decode", ".XQ.msgs"), message.redis_id, message.body)
    store.redis.zadd(keys.queue("decode", ".XQ"), {message.redis_id: 1})


def test_a_job_that_is_sent_is_queued_with_its_record_and_a_message_that_carries_its_id_alone(client):
    job = client.send("https://example.com/voice.ogg?token=hunter2", language="ko", metadata={"chat": 7})

    assert (job.status, job.options.language, job.metadata) == ("queued", "ko", {"chat": 7})
    assert job.source == "https://example.com/voice.ogg"
    [body] = store.redis.hvals(keys.queue("decode", ".msgs"))
    assert job.id.encode() in body
    assert b"example.com" not in body


@pytest.mark.parametrize(
    ("source", "options", "code"),
    [
        ("v.ogg", {"langauge": "ko"}, ErrorCode.INVALID_OPTIONS),
        ("", {}, ErrorCode.INVALID_OPTIONS),
        ("data:audio/ogg;base64," + "A" * 1024**2, {}, ErrorCode.SOURCE_TOO_LARGE),
    ],
)
def test_what_is_refused_leaves_nothing_behind(client, source, options, code):
    with pytest.raises(Refused) as raised:
        client.send(source, **options)

    assert raised.value.code is code
    assert not store.redis.keys("*:job:*")
    assert queues.depths()["decode"].waiting == 0


def test_a_full_queue_refuses(redis_url):
    with Client(redis_url, max_queued=1) as client:
        client.send("v.ogg")
        with pytest.raises(Refused, match="MAX_QUEUED is 1") as raised:
            client.send("v.ogg")

    assert raised.value.code is ErrorCode.SYSTEM_FULL


def test_an_upload_is_a_source_that_keeps_the_files_name(client, tmp_path):
    path = tmp_path / "note.ogg"
    path.write_bytes(b"OggS")

    with path.open("rb") as file:
        sources = [client.upload(b"OggS", "note.ogg"), client.upload(path), client.upload(file, "note.ogg")]

    assert all(source.startswith("upload:") for source in sources)
    assert [client.send(source).metadata for source in sources] == [{"filename": "note.ogg"}] * 3
    assert client.send(sources[0], metadata={"chat": 7}).metadata == {"filename": "note.ogg", "chat": 7}
    assert client.send(sources[0], metadata=[1]).metadata == [1]
    assert client.send(client.upload(b"OggS")).metadata is None


def test_an_upload_that_is_too_large_is_refused(redis_url):
    with Client(redis_url, max_source_bytes=3) as client, pytest.raises(Refused) as raised:
        client.upload(b"OggS")

    assert raised.value.code is ErrorCode.SOURCE_TOO_LARGE


@pytest.mark.parametrize("options", [{"langauge": "ko"}, {"callback_url": "ftp://x"}])
def test_a_file_that_is_not_sent_is_not_kept(client, options):
    with pytest.raises(Refused):
        client.send_file(b"OggS", **options)

    assert not store.redis.keys("*:upload:*")


def test_a_file_is_uploaded_and_sent_in_one_call(client):
    job = client.send_file(b"OggS", "note.ogg", enrich=False)

    assert job.source.startswith("upload:")
    assert (job.metadata, job.options.enrich) == ({"filename": "note.ogg"}, False)


def test_results_are_typed_from_the_record_to_the_rendering(client):
    job = client.send("v.ogg")
    threading.Timer(0.05, finish, (job.id,)).start()

    done = client.wait(job.id, timeout=30)

    assert (done.status, done.transcript.text, done.transcript.srt()) == ("done", "Hello.", "")
    assert [event.status for event in client.events(job.id)] == ["queued", "done"]


def test_jobs_are_listed_by_status_newest_first(client):
    first, second = client.send("1.ogg"), client.send("2.ogg")
    finish(first.id)

    assert [job.id for job in client.list()] == [second.id, first.id]
    assert [job.id for job in client.list("done")] == [first.id]
    assert [job.id for job in client.list(limit=1, before=second.id)] == [first.id]


def test_a_job_is_cancelled_once_and_deleted_for_good(client):
    job = client.send("v.ogg")

    assert client.cancel(job.id)
    assert not client.cancel(job.id)
    client.delete(job.id)

    for call in (client.get, client.cancel, client.delete, client.retry, client.wait):
        with pytest.raises(UnknownJob):
            call(job.id)


def test_a_failed_job_is_retried_from_where_its_work_can_go_on(client):
    job = client.send("v.ogg")
    store.redis.delete(keys.queue("decode"), keys.queue("decode", ".msgs"))
    dead(job.id)

    assert client.retry(job.id).status == "queued"

    assert queues.depths()["decode"].waiting == 1
    assert queues.depths()["decode"].dead == 0
    with pytest.raises(UnknownJob):
        client.retry(job.id)


def test_the_status_names_the_stages_that_nobody_consumes(client):
    client.send("v.ogg")

    now = client.status()

    assert now.stages["decode"].depth.waiting == 1
    assert now.unattended == ["decode", "transcribe", "enrich"]


def test_a_client_works_in_many_threads_and_after_a_fork(client):
    sent = []
    threads = [threading.Thread(target=lambda: sent.append(client.send("v.ogg").id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, client.send("child.ogg").id.encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert len({*sent}) == 8
    assert client.get(os.read(reading, 100).decode()).source == "child.ogg"
    os.close(reading)
    os.close(writing)


def test_an_unreachable_redis_is_a_refusal_with_its_code():
    with Client("redis://127.0.0.1:1/0") as client, pytest.raises(Refused) as raised:
        client.send("v.ogg")

    assert raised.value.code is ErrorCode.REDIS_UNAVAILABLE
