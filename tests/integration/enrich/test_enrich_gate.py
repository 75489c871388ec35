"""Limits and breaker, shared by all workers through a real Redis, whose time passes when the tests say so."""

import heapq
import time

import pytest
from live import store

from pipeline.enrich.gate import FAILURES, LONG, MEMORY, PAUSE, RECOVERED, REFUSED, SOON, Gate
from voicemill.errors import JobError
from voicemill.store import keys

MINUTE = 60.0  # seconds, a window; against them it does not tell how long the test itself took
SLACK = 10.0  # seconds by which it may be slow


@pytest.fixture
def gate(redis_url):
    def make(requests=0, tokens=0, window=MINUTE, probe=MINUTE):
        return Gate(requests, tokens, window, probe)

    return make


def delay(gate, job, tokens=1):
    """Seconds that a job is told to wait; 0: it may go."""
    try:
        gate.enter(job, tokens)
    except JobError as error:
        return error.retry_after
    return 0


def pass_by(seconds):
    """Let so much time pass for what the gate keeps in Redis."""
    client, passed = store.redis, int(seconds * 1000)
    for key in client.scan_iter(f"{keys.NAMESPACE}:enrich:*"):
        if client.type(key) == b"zset":  # scores are times
            for member in client.zrange(key, 0, -1):
                client.zincrby(key, -passed, member)
        if (left := client.pttl(key)) >= 0:
            client.pexpire(key, left - passed)


def about(seconds):
    """What is left of so many seconds after the test's own slowness."""
    return pytest.approx(seconds - SLACK / 2, abs=SLACK / 2 + 0.1)


def test_no_window_ever_holds_more_requests_than_allowed(gate):
    subject = gate(requests=10)
    began, passed, went = time.monotonic(), 0.0, []
    due = [(began + 0.1 * MINUTE * (job % 10), job) for job in range(40)]  # four at a time, in the first window

    heapq.heapify(due)
    while due:
        at, job = heapq.heappop(due)
        now = passed + time.monotonic()
        if at > now:  # as the queue does
            pass_by(at - now)
            passed += at - now
        asked = passed + time.monotonic()
        if wait := delay(subject, f"job-{job}"):
            heapq.heappush(due, (passed + time.monotonic() + wait, job))
        else:
            went.append((asked, passed + time.monotonic()))

    asked, told = zip(*went, strict=True)  # each was let through at a time between
    assert all(later - earlier > MINUTE - 0.1 for earlier, later in zip(asked, told[10:], strict=False))
    assert told[-1] - asked[9] < 3 * MINUTE + SLACK, "three windows after the first one, and little lost"


def test_tokens_are_limited_as_well_and_corrected_by_what_was_true(gate):
    subject = gate(tokens=100)
    first = subject.enter("a", 60)
    assert delay(subject, "b", 60) == about(MINUTE)
    subject.succeeded(first, 30)
    assert delay(subject, "b", 60) == 0


def test_a_request_larger_than_the_limit_goes_alone_rather_than_never(gate):
    subject = gate(tokens=100)
    assert delay(subject, "giant", 1000) == 0
    assert delay(subject, "small", 1) == about(MINUTE)


def test_a_job_with_many_requests_waits_in_turn_with_the_others(gate):
    subject = gate(requests=1)
    assert delay(subject, "long") == 0
    first, second = delay(subject, "long"), delay(subject, "short")
    assert first == about(MINUTE)
    assert second == about(2 * MINUTE), "its place is behind"
    pass_by(first)
    assert delay(subject, "newcomer") > 1.5 * MINUTE, "who comes later waits longer"
    assert delay(subject, "long") == 0
    again = delay(subject, "long")
    assert again > delay(subject, "short"), "the long job's next request stands behind the short job"


def test_room_for_tokens_is_kept_for_those_whose_turn_it_is(gate, monkeypatch):
    monkeypatch.setattr("pipeline.enrich.gate.LATE", 20)
    subject, client = gate(tokens=100, window=60), store.redis
    assert delay(subject, "first", 40) == 0
    assert delay(subject, "second", 70) > 0
    client.zincrby("{voicemill}:enrich:waiting", -60_000, "second")  # as if its turn had come
    assert delay(subject, "newcomer", 50) > 0
    client.zrem("{voicemill}:enrich:waiting", "second", "newcomer")
    assert delay(subject, "newcomer", 50) == 0


def test_who_left_the_queue_for_good_holds_up_nobody(gate):
    subject = gate(requests=1)
    delay(subject, "first")
    delay(subject, "gone")
    assert delay(subject, "patient") > 1.5 * MINUTE
    store.redis.zadd("{voicemill}:enrich:waiting", {"gone": 0})  # as if it was due long ago
    pass_by(MINUTE)
    assert delay(subject, "patient") == 0
    assert not store.redis.exists(*subject._keys("", "waiting", "sizes")), "its place is not kept for ever"


@pytest.mark.parametrize("size", [60, 150])
def test_a_large_request_goes_although_small_ones_keep_coming(gate, monkeypatch, size):
    monkeypatch.setattr("pipeline.enrich.gate.LATE", MINUTE / 5)
    subject = gate(tokens=100)
    now, smalls, due = 0.0, 0, MINUTE
    while now < 6 * MINUTE:
        pass_by(MINUTE / 50)
        now += MINUTE / 50
        if now > 0.22 * MINUTE * smalls:  # small ones fill 80 to 100 of the 100 a window, as long as they may
            smalls += 1
            delay(subject, f"small-{smalls}", 20)
        if now > due:
            wait = delay(subject, "large", size)
            if not wait:
                return
            due = now + wait
    pytest.fail("it never went")


def test_a_large_request_that_never_comes_back_holds_up_the_small_ones_for_a_turn_alone(gate, monkeypatch):
    monkeypatch.setattr("pipeline.enrich.gate.LATE", MINUTE / 5)
    subject = gate(tokens=100)
    assert delay(subject, "first", 50) == 0
    wait = delay(subject, "gone", 90)
    pass_by(wait / 2)
    assert delay(subject, "second", 50) == 0
    pass_by(wait / 2)
    assert delay(subject, "gone", 90) > 0, "it came in its turn: the next room is kept for it"
    wait = delay(subject, "small", 20)
    assert MINUTE / 5 < wait < MINUTE
    pass_by(wait)
    assert delay(subject, "small", 20) == 0


def fail(gate, times=1):
    """Send requests that fail."""
    for number in range(times):
        gate.failed(gate.enter(f"failing-{number}", 1), unreachable=False)


def test_failures_in_a_row_open_the_breaker_for_all_but_a_probe(gate):
    subject = gate()
    fail(subject, FAILURES - 1)
    passage = subject.enter("a", 1)
    assert not passage.probe
    subject.failed(passage, unreachable=False)

    with pytest.raises(JobError) as caught:
        subject.enter("a", 1)
    assert caught.value.code == "enrich_unavailable"
    assert 0 < caught.value.retry_after <= MINUTE + SLACK

    pass_by(caught.value.retry_after)
    passages = []
    for job in "abcdef":
        try:
            passages.append(subject.enter(job, 1))
        except JobError:
            continue
    assert [passage.probe for passage in passages] == [True]

    subject.succeeded(passages[0])
    assert not subject.enter("b", 1).probe


def test_the_longer_an_outage_lasts_the_fewer_are_its_probes(gate):
    subject, client, waits = gate(probe=10 * MINUTE), store.redis, []
    (probe,) = subject._keys("", "probe")
    fail(subject, FAILURES)
    for _ in range(25):
        client.delete(probe)  # as when it has expired
        passage = subject.enter("a", 1)
        assert passage.probe
        subject.failed(passage, unreachable=True)
        waits.append(client.pttl(probe) / 1000)
    assert waits == [about(min(30, 11 + number) * MINUTE) for number in range(25)]


def test_the_longer_an_outage_lasts_the_longer_jobs_stay_away_and_it_is_forgotten_at_last(gate, monkeypatch):
    monkeypatch.setattr("pipeline.enrich.gate.random.uniform", lambda _least, most: most)
    subject, client = gate(probe=10), store.redis
    breaker, probe = subject._keys("", "breaker", "probe")
    fail(subject, FAILURES)
    assert delay(subject, "b") < 10 + 5
    client.hincrby(breaker, "since", -120_000)  # as if it had begun two minutes ago
    client.delete(probe)
    fail(subject)
    assert 30 <= delay(subject, "b") < 60
    assert 0 < client.pttl(breaker) <= MEMORY * 1000


def test_the_probe_that_is_answered_takes_its_hold_along(gate):
    """Another outage soon after would else be judged by what is left of it."""
    subject, client = gate(probe=10), store.redis
    (probe,) = subject._keys("", "probe")
    fail(subject, FAILURES)
    client.delete(probe)  # as when it has expired
    passage = subject.enter("a", 1)
    assert passage.probe
    subject.succeeded(passage)
    assert not client.exists(probe)


def test_a_success_between_failures_keeps_the_breaker_closed(gate):
    subject = gate()
    for _ in range(3 * FAILURES):
        fail(subject)
        subject.succeeded(subject.enter("a", 1))


def test_time_outs_of_requests_older_than_an_answer_are_no_outage(gate):
    subject = gate()
    slow = [subject.enter(f"slow-{number}", 1) for number in range(2 * FAILURES)]
    time.sleep(0.002)  # the times are whole milliseconds
    subject.succeeded(subject.enter("quick", 1))
    for passage in slow:
        subject.failed(passage, unreachable=False)
    assert not subject.enter("next", 1).probe


def test_after_a_failure_no_more_are_on_their_way_than_would_open_the_breaker(gate):
    subject = gate()
    fail(subject)
    others = [subject.enter(f"other-{number}", 1) for number in range(FAILURES - 1)]
    assert 0 < delay(subject, "next") <= 1.5 * LONG
    subject.failed(others.pop(), unreachable=False)
    assert delay(subject, "next") > 0
    subject.succeeded(others.pop())
    assert delay(subject, "next") == 0


def test_who_waits_for_one_request_looks_the_less_often_the_longer_that_takes(gate):
    subject = gate(probe=60)
    subject.enter("slow", 1)
    fail(subject, FAILURES - 1)
    (flight,) = subject._keys("", "flight")
    ((slow, went),) = store.redis.zrange(flight, 0, -1, withscores=True)
    store.redis.zadd(flight, {slow: went + 60_000})  # as if it had only just gone
    assert 0.5 * SOON <= delay(subject, "b") <= 1.5 * SOON
    store.redis.zadd(flight, {slow: went - 2_000})
    assert 1 <= delay(subject, "b") <= 1.5 * LONG
    store.redis.zadd(flight, {slow: went - 30_000})
    assert 0.5 * LONG <= delay(subject, "b") <= 1.5 * LONG


def test_a_request_that_hangs_holds_up_the_others_no_longer_than_a_probe(gate):
    subject = gate()
    subject.enter("hangs", 1)
    fail(subject, FAILURES - 1)
    assert delay(subject, "b") > 0
    pass_by(MINUTE)
    assert delay(subject, "b") == 0


def test_a_limit_that_several_jobs_run_into_one_after_another_holds_all_back_and_is_nobodys_fault(gate):
    subject = gate()
    jobs = [f"job-{number}" for number in range(REFUSED)]
    passages = [subject.enter(job, 1) for job in jobs]
    shared = [sorted(subject.refused(passage, job, MINUTE)) for passage, job in zip(passages, jobs, strict=True)]
    assert shared == [[]] * (REFUSED - 1) + [jobs], "with the last it is known that none was at fault"
    assert MINUTE - SLACK < delay(subject, "d") <= 1.25 * MINUTE
    pass_by(MINUTE)

    passage = subject.enter("d", 1)
    assert delay(subject, "e") == 0
    assert delay(subject, "f") > 0, "two at a time at first"
    subject.succeeded(passage)
    assert [delay(subject, job) for job in "fg"] == [0, 0]
    assert delay(subject, "h") > 0, "three then"


def test_a_hold_is_no_shorter_for_a_later_wish_and_no_longer_than_a_pause(gate):
    subject, client = gate(), store.redis
    (hold,) = subject._keys("", "hold")
    jobs = [f"job-{number}" for number in range(REFUSED + 1)]
    passages = [subject.enter(job, 1) for job in jobs]
    for passage, job, seconds in zip(passages, jobs, [86_400] * REFUSED + [0.1], strict=True):
        subject.refused(passage, job, seconds)
    assert PAUSE / 2 < client.pttl(hold) / 1000 <= PAUSE


def test_after_enough_answers_no_request_is_held_back_any_more(gate):
    subject, client = gate(), store.redis
    for number in range(REFUSED):
        subject.refused(subject.enter("a", 1), f"job-{number}", 60)
    client.delete(*subject._keys("", "hold"))  # as when it has expired
    for _ in range(RECOVERED):
        subject.succeeded(subject.enter("a", 1))
    assert not any(delay(subject, f"at-once-{number}") for number in range(2 * RECOVERED))


def test_who_is_refused_once_it_is_known_that_all_are_is_without_fault(gate):
    subject = gate()
    jobs = [f"job-{number}" for number in range(REFUSED + 2)]
    passages = [subject.enter(job, 1) for job in jobs]
    shared = [subject.refused(passage, job, MINUTE) for passage, job in zip(passages, jobs, strict=True)]
    assert shared[REFUSED:] == [[job] for job in jobs[REFUSED:]]


def test_an_answer_between_two_refusals_tells_that_they_were_the_jobs_own(gate):
    subject = gate()
    for job in "abcd"[:REFUSED]:
        assert subject.refused(subject.enter(job, 1), job, MINUTE) == []
        subject.succeeded(subject.enter("another", 1))


def test_a_limit_that_one_job_alone_runs_into_holds_nobody_else_back(gate):
    subject = gate()
    assert not any(subject.refused(subject.enter("a", 1), "a", 5) for _ in range(2 * REFUSED))
    assert delay(subject, "b") == 0


def test_after_the_days_quota_one_request_looks_whether_it_is_back(gate):
    subject = gate()
    subject.pause(MINUTE)
    assert 0 < delay(subject, "a") <= 1.25 * MINUTE
    pass_by(MINUTE)
    assert delay(subject, "a") == 0
    assert delay(subject, "b") > 0


def test_what_holds_one_model_back_does_not_hold_another(gate):
    subject = gate()
    subject.pause(60, "flash")
    subject.failed(subject.enter("a", 1, "pro"), unreachable=True)
    assert not subject.enter("a", 1, "lite").probe
    for model in ("flash", "pro"):
        with pytest.raises(JobError):
            subject.enter("a", 1, model)
