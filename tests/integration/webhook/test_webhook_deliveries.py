"""What a receiver is sent, in which order, and what happens if it does not accept it."""

import json
import re
import time

import pytest
from live import jobs, outbox, queues, store
from receiver import SECRET, receiving

from pipeline.webhook.delivery import SKIP_AFTER
from voicemill.errors import ErrorCode, JobError
from voicemill.options import Options
from voicemill.store import keys
from voicemill.store.jobs import receiver_of
from voicemill.store.outbox import AT_ONCE, ERRORS_IN_A_ROW, Verdict

OTHER = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo="


def end_pause(name):
    """End the pause of a receiver, as if its time had passed."""
    store.redis.hset(keys.outbox("receiver", name), "until", 0)


def test_a_job_notifies_of_its_transcript_and_then_of_its_end(done, receiver, post, name):
    done("one")
    assert post().run(name) == 2

    transcribed, ended = receiver.taken
    assert [got.type for got in receiver.taken] == ["job.transcribed", "job.done"]
    assert [got.id for got in receiver.taken] == ["msg_one_1", "msg_one_2"]
    assert transcribed.data["status"] == "transcribed"
    assert transcribed.data["stages"]["enrich"]["finished_at"] is None
    assert (transcribed.data["enrichment_skipped"], ended.data["enrichment_skipped"]) == (None, "no key")
    record = json.loads(json.dumps(jobs.get("one").as_dict()))
    webhook = record.pop("webhook")
    assert ended.data == record
    assert ended.headers["Content-Type"] == "application/json"
    assert (webhook["receiver"], webhook["delivered"], webhook["pending"]) == (name, "done", [])
    assert webhook["last_status"] == 200


def test_a_job_without_a_callback_leaves_no_trace_of_one(redis_url):
    jobs.create("quiet", "voice.ogg", Options())
    jobs.finish("quiet", "transcribe", {"transcript": {"text": "x"}})
    jobs.finish("quiet", "enrich", {})
    assert jobs.get("quiet").webhook is None
    assert list(store.redis.scan_iter("*webhook*")) == []
    assert set(queues.depths()) == {"decode", "transcribe", "enrich", "webhook"}


def test_webhook_url_gets_the_events_of_jobs_without_a_callback(redis_url, receiver, post, name, monkeypatch, trap):
    jobs.create("early", "voice.ogg", Options())  # by a backend that does not know the variable
    monkeypatch.setenv("WEBHOOK_URL", receiver.url())
    jobs.create("early", "voice.ogg", Options())  # by the worker that does
    jobs.create("own", "voice.ogg", Options(callback_url=trap.url()))
    jobs.create("plain", "voice.ogg", Options())
    for each in ("early", "own", "plain"):
        jobs.cancel(each)
    post().run(name)
    assert {got.job for got in receiver.taken} == {"early", "plain"}
    assert jobs.get("own").webhook.receiver == receiver_of(trap.url())

    monkeypatch.setenv("WEBHOOK_URL", "somewhere")
    with pytest.raises(JobError, match="invalid_options"):
        jobs.create("wrong", "voice.ogg", Options())


def test_during_rotation_receivers_with_either_secret_can_verify(done, receiver, post, name):
    with receiving(secret=OTHER) as other:
        done("one")
        done("two", other.url())
        both = post(webhook_secret=f"{OTHER} {SECRET}")
        both.run(name)
        both.run(receiver_of(other.url()))
        assert (len(receiver.taken), len(other.taken)) == (2, 2)
        post().run(name)
        done("three", other.url())
        post().run(receiver_of(other.url()), most=1)
        assert other.forged == 1


def test_a_failed_delivery_is_retried_under_the_same_id_with_a_new_signature(job, receiver, post, name):
    receiver.behave = lambda _got: 200 if len(receiver.got) == 4 else 500
    jobs.cancel(job("one"))
    post().until(name, lambda: receiver.taken)
    assert [got.answered for got in receiver.got] == [500] * 4 + [200]
    assert {got.id for got in receiver.got} == {"msg_one_1"}
    assert receiver.forged == 0
    assert len({json.dumps(got.data) for got in receiver.got}) == 1
    assert jobs.get("one").webhook.last_error is None
    assert outbox.counts() == {"delivered": 1, "skipped": 0, "failed": 4, "stopped": 0}


def test_a_failed_attempt_is_shown_in_the_record_and_among_the_receivers(job, receiver, post, name):
    jobs.cancel(job("one"))
    receiver.behave = lambda _got: (503, {"Retry-After": "120"})
    assert post().run(name) == 1
    webhook = jobs.get("one").webhook
    assert (webhook.attempts, webhook.last_status, webhook.pending) == (1, 503, ("cancelled",))
    assert webhook.last_error.code == "webhook_refused"
    assert webhook.next_at >= time.time() + 100
    (listed,) = outbox.receivers()
    assert (listed.name, listed.failures, listed.undelivered) == (name, 1, 1)
    assert listed.paused_until >= time.time() + 100
    assert queues.depths()["webhook"].delayed == 1


def test_410_stops_the_deliveries_of_a_job_until_they_are_retried(done, receiver, post, name):
    receiver.behave = lambda _got: 410
    done("one")
    assert post().run(name) == 1
    assert jobs.get("one").webhook.stopped.code == "webhook_gone"
    assert jobs.get("one").status == "done"
    (letter,) = queues.dead_letters()
    assert (letter.job_id, letter.stage, letter.code) == ("one", "webhook", "webhook_gone")
    assert queues.depths()["webhook"].dead == 1

    receiver.behave = lambda _got: 200
    assert queues.retry(letter) == "webhook"
    assert list(queues.dead_letters()) == []
    post().run(name)
    assert [got.type for got in receiver.taken] == ["job.transcribed", "job.done"]
    assert queues.retry(letter) is None


def test_nothing_is_sent_after_deliveries_stopped(job, receiver, post, name):
    receiver.behave = lambda _got: 410
    jobs.finish(job("one"), "transcribe", {"transcript": {"text": "x"}})
    post().run(name)
    jobs.finish("one", "enrich", {})
    assert post().run(name) == 0
    assert len(receiver.got) == 1
    assert jobs.get("one").webhook.pending == ("transcribed", "done")


@pytest.mark.parametrize("limit", [{"webhook_give_up": 0.5}, {"result_ttl": 1}])
def test_a_delivery_that_fails_for_too_long_is_given_up_before_the_record_expires(job, receiver, post, name, limit):
    receiver.behave = lambda _got: 500
    jobs.cancel(job("one"))
    post(**limit).until(name, lambda: jobs.get("one").webhook.stopped)
    assert jobs.get("one").webhook.stopped.code == "webhook_gave_up"
    assert [letter.code for letter in queues.dead_letters("webhook")] == ["webhook_gave_up"]


def test_done_waits_until_transcribed_is_delivered(done, receiver, post, name):
    receiver.behave = lambda _got: 200 if len(receiver.got) >= 3 else 500
    done("one")
    post().until(name, lambda: len(receiver.taken) == 2)
    assert [got.type for got in receiver.got] == ["job.transcribed"] * 4 + ["job.done"]


def test_an_event_that_is_always_rejected_is_skipped_if_a_later_one_says_more(done, receiver, post, name):
    receiver.behave = lambda got: 200 if got.type == "job.done" else 400
    done("one")
    post().until(name, lambda: receiver.taken)
    assert [got.type for got in receiver.got] == ["job.transcribed"] * SKIP_AFTER + ["job.done"]


def test_an_unreachable_receiver_costs_one_attempt_and_gets_everything_once_it_is_back(done, redis_url, post):
    with receiving() as first:
        port = first.server_port
    name = f"http://127.0.0.1:{port}"
    for number in range(20):
        done(f"job-{number:02}", f"{name}/hook")
    patient = post(webhook_backoff="600")
    assert patient.run(name) == 1
    assert patient.run(name) == 0
    assert jobs.get("job-00").webhook.last_error.code == "webhook_unreachable"
    assert [listed.undelivered for listed in outbox.receivers()] == [20]
    end_pause(name)
    assert patient.run(name) == 1
    end_pause(name)
    with receiving(port=port) as back:
        assert patient.run(name) == 40
    for number in range(20):
        types = [got.type for got in back.taken if got.job == f"job-{number:02}"]
        assert types == ["job.transcribed", "job.done"]


def test_a_job_that_its_receiver_rejects_does_not_delay_others(job, receiver, post, name):
    receiver.behave = lambda got: 500 if got.job == "poison" else 200
    for each in ("a", "poison", "b", "c"):
        jobs.cancel(job(each))
    assert post(webhook_backoff="600").run(name) == 4
    assert [got.job for got in receiver.taken] == ["a", "b", "c"]


def test_a_receiver_that_only_answers_errors_is_paused(job, receiver, post, name):
    receiver.behave = lambda _got: 500
    for number in range(12):
        jobs.cancel(job(f"job-{number}"))
    assert post(webhook_backoff="600").run(name) == ERRORS_IN_A_ROW == len(receiver.got)


def test_after_an_outage_pending_jobs_do_not_wait_for_their_next_attempt(job, receiver, post, name):
    receiver.behave = lambda _got: 503
    patient = post(webhook_backoff="600")
    for each in ("old", "older"):
        jobs.cancel(job(each))
        assert patient.run(name) == 1
        end_pause(name)
    receiver.behave = lambda _got: 200
    jobs.cancel(job("new"))
    assert patient.run(name) == 3
    assert {got.job for got in receiver.taken} == {"old", "older", "new"}


def test_a_redirect_is_not_followed(done, receiver, post, name, trap):
    receiver.behave = lambda _got: (307, {"Location": trap.url()})
    done("one")
    post(webhook_backoff="600").run(name)
    assert jobs.get("one").webhook.last_error.code == "webhook_redirected"


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({"webhook_allow_private": False}, "127.0.0.1"),
        ({"webhook_allow_private": False}, "localhost"),
        ({"webhook_allow_private": False}, "2130706433"),
        ({"webhook_allow_http": False}, "127.0.0.1"),
        ({"webhook_allow_hosts": "*.example.com"}, "127.0.0.1"),
    ],
)
def test_a_forbidden_url_is_never_requested_and_stops_the_deliveries(job, trap, post, settings, host):
    url = trap.url(host=host)
    jobs.cancel(job("one", url))
    assert post(**settings).run(receiver_of(url)) == 1
    assert jobs.get("one").webhook.stopped.code == "webhook_forbidden"


def test_without_a_secret_deliveries_wait_for_one(job, receiver, post, name):
    jobs.cancel(job("one"))
    post(webhook_secret=None).run(name)
    assert jobs.get("one").webhook.last_error.code == "webhook_unsigned"
    assert receiver.got == []
    post().until(name, lambda: receiver.taken)


def test_nothing_of_a_deleted_job_is_delivered(done, receiver, post, name):
    done("one")
    jobs.delete("one")
    assert post().run(name) == 0
    assert outbox.receivers() == []

    def forget(got):
        jobs.delete(got.job)
        return 500

    receiver.behave = forget
    done("two")
    assert post().run(name) == 1
    assert [got.job for got in receiver.got] == ["two"]
    assert store.redis.hgetall(keys.record("two")) == {b"status": b"deleted"}


def test_the_failure_of_a_job_that_was_retried_is_not_delivered(job, receiver, post, name):
    jobs.fail(job("one"), "decode", JobError(ErrorCode.UNDECODABLE, "x"))
    jobs.restart("one", "decode")
    jobs.finish("one", "transcribe", {"transcript": {"text": "x"}}, following=None)
    post().run(name)
    assert [got.type for got in receiver.got] == ["job.done"]


def test_a_delivery_lost_with_its_worker_is_repeated(job, receiver, post, name):
    jobs.cancel(job("one"))
    deliverer = post().deliverer
    assert deliverer.take(name).job_id == "one"
    assert deliverer.take(name).job_id is None
    for kind in ("jobs", "busy"):  # as if the time of a delivery had passed
        store.redis.zadd(keys.outbox(kind, name), {"one": 0})
    assert post().run(name) == 1
    assert len(receiver.taken) == 1


def test_a_slow_receiver_occupies_one_thread_and_others_a_few(job, receiver, post, name):
    for number in range(8):
        jobs.cancel(job(f"job-{number}"))
    deliverer = post().deliverer
    orders = [deliverer.take(name) for _ in range(6)]
    assert [order.job_id is not None for order in orders] == [True] * AT_ONCE + [False] * 2
    assert [order.more for order in orders] == [True] * (AT_ONCE - 1) + [False] * 3
    first = outbox.pending(orders[0].job_id).pending[0]
    outbox.settle(orders[0].job_id, name, first, Verdict("delivered", "ok", slow=True), {}, [1.0])
    assert deliverer.take(name).job_id is None


@pytest.mark.parametrize("begun", [True, False])
def test_finishing_twice_notifies_once(job, receiver, post, name, begun):
    job("one")
    token = jobs.begin("one", "transcribe", "worker") if begun else None
    for _ in range(2):
        assert jobs.finish("one", "transcribe", {"transcript": {"text": "x"}}, token=token)
    assert post().run(name) == 1


def test_no_secret_in_a_url_is_shown(job, receiver, post, name):
    jobs.cancel(job("one", re.sub("//", "//me:hunter2@", receiver.url("hook?token=hunter2"))))
    receiver.behave = lambda _got: 500
    post().run(name, most=1)
    assert "hunter2" not in json.dumps(jobs.get("one").as_dict())
    assert receiver.got[0].path == "/hook?token=hunter2"
    assert "authorization" in map(str.lower, receiver.got[0].headers)
