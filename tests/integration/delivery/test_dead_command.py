"""`dead`: which dead letters it chooses, and what it says."""

import argparse
import json
import time

import pytest
from dying import dead_letter, die
from live import jobs, queues, store

from voicemill import Client, decode
from voicemill._cli import dead
from voicemill.options import Options
from voicemill.store import keys

pytestmark = pytest.mark.usefixtures("redis_url")


def run_dead(*words):
    """Run `dead` as it is typed."""
    parser = argparse.ArgumentParser()
    dead.configure(parser)
    with Client() as client:
        return dead.run(parser.parse_args(words), client)


@pytest.mark.parametrize(("age", "chosen"), [("--older", "yesterday"), ("--newer", "now")], ids=["older", "newer"])
def test_dead_letters_are_chosen_by_their_age(age, chosen, capsys):
    for name in ("yesterday", "now"):
        jobs.create(name, "voice.ogg", Options())
        die(name, "decode")
    store.redis.zadd(keys.queue("decode", ".XQ"), {"r-yesterday": (time.time() - 86400) * 1000})

    assert run_dead("show", age, "12") == 0

    assert [shown["job"] for shown in json.loads(capsys.readouterr().out)] == [chosen]


def test_an_age_of_0_matches_all():
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    store.redis.zadd(keys.queue("decode", ".XQ"), {"r-j": (time.time() - 1) * 1000})

    assert run_dead("drop", "--older", "0") == 0

    assert list(queues.dead_letters()) == []


@pytest.mark.parametrize(
    ("action", "done"),
    [("list", "j  decode"), ("show", '"job": "j"'), ("retry", "j: queued for decode"), ("drop", "1 dropped")],
)
def test_an_id_without_a_dead_letter_is_reported_while_the_others_are_processed(action, done, capsys):
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")

    assert run_dead(action, "typo", "j", "--code", "undecodable") == 4

    written = capsys.readouterr()
    assert written.err == "no dead letter of job 'typo' matches\n"
    assert done in written.out


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("undecodeable", "did you mean undecodable"), ("xyz", "docs/reference/errors.md lists them")],
)
def test_an_unknown_code_is_wrong_usage_and_similar_ones_are_named(typed, answer, capsys):
    with pytest.raises(SystemExit) as raised:
        run_dead("drop", "--code", typed)

    assert raised.value.code == 2
    assert f"{typed!r} is not an error code: {answer}" in capsys.readouterr().err
    assert run_dead("drop", "--code", "unknown") == 0  # of those whose record is gone


def test_a_retry_that_the_full_system_refuses_is_reported_and_the_job_stays_failed(monkeypatch, capsys):
    jobs.create("j", "voice.ogg", Options())
    die("j", "decode")
    decode.send("another.ogg")
    monkeypatch.setenv("MAX_QUEUED", "1")

    assert run_dead("retry", "j") == 1

    assert "j: not retried: system_full" in capsys.readouterr().out
    assert jobs.get("j").status == "failed"
    assert dead_letter("j")
