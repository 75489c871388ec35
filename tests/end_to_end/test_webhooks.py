"""A backend that does not wait: the real worker groups notify it, and it verifies the sender."""

import json

import pytest
from hearing import SENTENCE, word_error_rate
from live import jobs
from receiver import receiving

from voicemill import decode


@pytest.fixture
def receiver():
    with receiving() as server:
        yield server


def test_a_backend_is_notified_of_transcript_result_and_failure_and_can_verify_it(backend, receiver):
    url = receiver.url("hook?token=secret")
    job_id = decode.send("en.ogg", language="en", metadata={"chat": 7}, callback_url=url).message_id
    receiver.until(lambda server: len(server.taken) >= 2)
    transcribed, done = receiver.taken

    assert [event.type for event in (transcribed, done)] == ["job.transcribed", "job.done"]
    assert transcribed.job == done.job == job_id
    assert word_error_rate(transcribed.data["transcript"]["text"], SENTENCE) < 0.4
    assert (transcribed.data["status"], transcribed.data["enrichment_skipped"]) == ("transcribed", None)
    assert done.data["enrichment_skipped"]
    assert done.data["metadata"] == {"chat": 7}
    record = json.loads(json.dumps(jobs.get(job_id).as_dict()))
    assert record.pop("webhook")["receiver"] == url.removesuffix("/hook?token=secret")
    assert done.data == record

    failing = decode.send("empty.ogg", callback_url=url).message_id
    receiver.until(lambda server: len(server.taken) >= 3)
    failed = receiver.taken[2]
    assert (failed.type, failed.job) == ("job.failed", failing)
    assert failed.data["error"]["code"] == "empty_source"
    assert receiver.forged == 0
    assert not [line for line in backend.lines if "secret" in line]
