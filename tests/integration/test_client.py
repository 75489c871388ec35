"""The client against a real Redis: what a backend calls."""

import io
import json
import os
import threading
import time

import pytest
from live import jobs, outbox, queues, store

from voicemill import Client, ErrorCode, Failure, JobError, Refused, UnknownJob
from voicemill.store import keys
from voicemill.store.outbox import Verdict
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


def test_waiting_for_the_transcript_alone_ends_before_the_summary(client):
    job = client.send("v.ogg")
    jobs.finish(job.id, "transcribe", {"transcript": TRANSCRIPT})

    assert client.wait(job.id, timeout=5, until="transcribed").transcript.text == "Hello."
    with pytest.raises(TimeoutError, match=f"job {job.id} is still transcribed after 0.1 s"):
        client.wait(job.id, timeout=0.1)
    with pytest.raises(ValueError, match="'done' or 'transcribed'"):
        client.wait(job.id, until="transcript")


def test_the_events_of_a_job_that_does_not_end_stop_after_the_timeout(client):
    job, seen = client.send("v.ogg"), []

    with pytest.raises(TimeoutError, match=f"job {job.id} is still queued after 0.1 s"):
        seen.extend(event.status for event in client.events(job.id, timeout=0.1))

    events = client.events(job.id, timeout=30)
    assert next(events).status == "queued"
    client.cancel(job.id)
    assert [event.status for event in events] == ["cancelled"]


def test_the_events_of_an_unknown_job_are_refused_at_once(client):
    began = time.monotonic()

    with pytest.raises(UnknownJob):
        next(client.events("nobody"))

    assert time.monotonic() - began < 1.5


def test_pages_follow_one_another_without_gaps_or_repetition(client):
    sent = [client.send("v.ogg").id for _ in range(7)]
    for job_id in sent[:2]:
        store.redis.zadd(keys.index(), {job_id: 5})  # created at the same moment
        store.redis.hset(keys.record(job_id), "created_at", "5")
    listed, sizes, before = [], [], None
    while page := client.list(limit=3, before=before):
        listed += [job.id for job in page]
        sizes.append(len(page))
        before = listed[-1]

    assert sizes == [3, 3, 1]
    assert listed == [*reversed(sent[2:]), *sorted(sent[:2], reverse=True)]


def test_a_list_names_what_it_cannot_take(client):
    with pytest.raises(ValueError, match="status is 'finished'; use one of queued, "):
        client.list("finished")
    with pytest.raises(ValueError, match="limit is 0"):
        client.list(limit=0)
    with pytest.raises(UnknownJob):
        client.list(before="nobody")


def test_a_file_that_a_full_queue_refuses_is_not_kept(redis_url):
    with Client(redis_url, max_queued=1) as client:
        client.send("v.ogg")
        for data in (b"OggS", io.BytesIO(b"OggS")):
            with pytest.raises(Refused, match="MAX_QUEUED is 1"):
                client.send_file(data)

    assert not store.redis.keys("*:upload:*")


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


def test_the_stopped_delivery_of_a_webhook_is_retried(client):
    job = client.send("v.ogg", callback_url="https://example.com/hook")
    finish(job.id)
    receiver = "https://example.com:443"
    [event, *_] = outbox.pending(job.id).pending
    error = Failure.of(JobError(ErrorCode.WEBHOOK_GONE, "410"))
    stopped = {"stopped": json.dumps(error.as_dict())}
    outbox.settle(job.id, receiver, event, Verdict("stopped", health="ok"), stopped, [1.0])
    assert client.get(job.id).webhook.stopped.code == "webhook_gone"
    assert queues.depths()["webhook"].dead == 1

    again = client.retry(job.id)

    assert (again.status, again.webhook.stopped, again.webhook.pending[0]) == ("done", None, event.status)
    assert queues.depths()["webhook"].dead == 0


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


@pytest.mark.parametrize("call", [lambda client: client.send("v.ogg"), lambda client: client.send_file(b"OggS")])
def test_an_unreachable_redis_is_a_refusal_with_its_code(call):
    with Client("redis://127.0.0.1:1/0") as client, pytest.raises(Refused) as raised:
        call(client)

    assert raised.value.code is ErrorCode.REDIS_UNAVAILABLE


@pytest.mark.parametrize("source", [None, 5, b"v.ogg"])
def test_a_source_that_is_no_text_is_refused(client, source):
    with pytest.raises(Refused) as raised:
        client.send(source)

    assert raised.value.code is ErrorCode.INVALID_OPTIONS


def test_a_path_that_is_text_is_an_error_that_names_what_to_pass(client):
    with pytest.raises(TypeError, match=r"pathlib\.Path"):
        client.send_file("voice.ogg")


def test_the_name_of_a_file_may_be_given_by_its_keyword(client):
    assert client.send_file(b"OggS", filename="note.ogg").metadata == {"filename": "note.ogg"}
