"""The commands `webhook` and `dead`, as an operator runs them."""

import json
import os
import subprocess
import sys

import pytest
from live import jobs, queues
from receiver import SECRET

from config.environment import STATE


@pytest.fixture
def pipeline(redis_url):
    """Run a command in its own process; return its exit code and its output."""

    def run(*arguments, **variables):
        settings = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_ALLOW_HTTP": "1", "WEBHOOK_ALLOW_PRIVATE": "1"}
        ran = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=STATE.parent,
            env=os.environ | {"REDIS_URL": redis_url} | settings | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in ran.stderr
        return ran.returncode, ran.stdout + ran.stderr

    return run


@pytest.mark.parametrize(("action", "said"), [("test", "Send a signed event"), ("secret", "for WEBHOOK_SECRET")])
def test_each_action_explains_itself(pipeline, action, said):
    code, help_text = pipeline("webhook", action, "--help")
    assert (code, said in help_text) == (0, True)


def test_a_test_event_reports_whether_it_was_accepted_and_how_to_fix_it_if_not(pipeline, receiver):
    code, said = pipeline("webhook", "test", receiver.url("hook?token=hunter2"))
    assert (code, receiver.taken[0].type) == (0, "webhook.test")
    assert "accepted it: 200 after" in said
    assert "hunter2" not in said

    receiver.behave = lambda _got: 404
    code, said = pipeline("webhook", "test", receiver.url())
    assert code == 1
    assert "404" in said
    assert "webhook_refused" in said
    assert "receiver's log" in said

    code, said = pipeline("webhook", "test", receiver.url(), WEBHOOK_ALLOW_PRIVATE="0")
    assert (code, "webhook_forbidden" in said, "nothing was sent" in said) == (2, True, True)
    code, said = pipeline("webhook", "test", receiver.url(), WEBHOOK_SECRET="guess")
    assert (code, "WEBHOOK_SECRET: it must be whsec_" in said, "guess" in said) == (2, True, False)
    assert pipeline("webhook", "test", "nonsense")[0] == 2
    assert len(receiver.got) == 2


def test_receivers_with_pending_webhooks_are_listed_and_a_missing_worker_is_reported(
    pipeline, receiver, job, post, name
):
    assert pipeline("webhook", "list") == (0, "no pending webhooks\n")
    receiver.behave = lambda _got: 503
    jobs.cancel(job("one"))
    post(webhook_backoff="600").run(name)

    code, said = pipeline("webhook", "list", COLUMNS="40")
    assert code == 1
    assert f"{name}  0 waiting, 0 in progress, 1 delayed\n    failing since " in said
    assert "webhook_refused: the receiver answers 503\n" in said
    assert "No live webhook worker" in said
    (listed,) = json.loads(pipeline("webhook", "list", "--json")[1])
    assert (listed["name"], listed["failures"]) == (name, 1)


def test_a_stopped_delivery_is_a_dead_letter_and_can_be_retried(pipeline, receiver, job, post, name):
    receiver.behave = lambda _got: 410
    jobs.cancel(job("one"))
    post().run(name)
    assert "webhook_gone" in pipeline("dead", "list", COLUMNS="200")[1]

    assert pipeline("dead", "retry", "--code", "webhook_gone") == (0, "one: queued for webhook\n")

    assert list(queues.dead_letters()) == []
    receiver.behave = lambda _got: 200
    post().run(name)
    assert [got.type for got in receiver.taken] == ["job.cancelled"]
