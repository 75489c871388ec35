"""Limits and breaker, shared by all workers through a real Redis."""

import threading
import time

import pytest

from pipeline import connection
from pipeline.enrich.gate import FAILURES, Gate
from pipeline.errors import JobError


@pytest.fixture
def gate(redis_url):
    def make(requests=0, tokens=0, window=1.0, probe=1.0):
        return Gate(requests, tokens, window, probe)

    return make


def delay(gate, job, tokens=1):
    """Seconds that a job is told to wait; 0: it may go."""
    try:
        gate.enter(job, tokens)
    except JobError as error:
        return error.retry_after
    return 0


def test_no_window_ever_holds_more_requests_than_allowed(gate):
    subject = gate(requests=10, window=1)
    went, jobs, lock = [], list(range(40)), threading.Lock()

    def work():
        while True:
            with lock:
                if not jobs:
                    return
                job = jobs.pop()
            asked = time.monotonic()
            while wait := delay(subject, f"job-{job}"):
                time.sleep(wait)  # as the queue does
                asked = time.monotonic()
            with lock:
                went.append((asked, time.monotonic()))

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    asked, told = map(sorted, zip(*went, strict=True))  # each was let through at a time between
    assert len(asked) == 40
    assert all(later - earlier > 0.99 for earlier, later in zip(asked, told[10:], strict=False))
    assert time.monotonic() - began < 3 * 1 * 1.5, "three windows after the first one, and little lost"


def test_tokens_are_limited_as_well_and_corrected_by_what_was_true(gate):
    subject = gate(tokens=100)
    first = subject.enter("a", 60)
    assert delay(subject, "b", 60) == pytest.approx(1, abs=0.1)
    subject.succeeded(first, 30)
    assert delay(subject, "b", 60) == 0


def test_a_request_larger_than_the_limit_goes_alone_rather_than_never(gate):
    subject = gate(tokens=100)
    assert delay(subject, "giant", 1000) == 0
    assert delay(subject, "small", 1) > 0.9


def test_a_job_with_many_requests_waits_in_turn_with_the_others(gate):
    subject = gate(requests=1, window=1)
    assert delay(subject, "long") == 0
    first, second = delay(subject, "long"), delay(subject, "short")
    assert first == pytest.approx(1, abs=0.25)
    assert second == pytest.approx(2, abs=0.25), "its place is behind"
    time.sleep(first)
    assert delay(subject, "newcomer") > 1.5, "who comes later waits longer"
    assert delay(subject, "long") == 0
    again = delay(subject, "long")
    assert again > delay(subject, "short"), "the long job's next request stands behind the short job"


def test_who_left_the_queue_for_good_holds_up_nobody(gate):
    subject = gate(requests=1, window=1)
    delay(subject, "first")
    delay(subject, "gone")
    assert delay(subject, "patient") > 1.5
    connection.client().zadd("{voicemill}:enrich:waiting", {"gone": 0})  # as if it was due long ago
    time.sleep(1.01)
    assert delay(subject, "patient") == 0


def fail(gate, times=1):
    """Send requests that fail."""
    for number in range(times):
        gate.failed(gate.enter(f"failing-{number}", 1), unreachable=False)


def test_failures_in_a_row_open_the_breaker_for_all_but_a_probe(gate):
    subject = gate()
    fail(subject, FAILURES - 1)
    assert not subject.enter("a", 1).probe
    fail(subject)

    with pytest.raises(JobError) as caught:
        subject.enter("a", 1)
    assert caught.value.code == "enrich_unavailable"
    assert 0 < caught.value.retry_after <= 1 + 0.1

    time.sleep(caught.value.retry_after)
    passages = []
    for job in "abcdef":
        try:
            passages.append(subject.enter(job, 1))
        except JobError:
            continue
    assert [passage.probe for passage in passages] == [True]

    subject.succeeded(passages[0])
    assert not subject.enter("b", 1).probe


def test_a_success_between_failures_keeps_the_breaker_closed(gate):
    subject = gate()
    for _ in range(3 * FAILURES):
        fail(subject)
        subject.succeeded(subject.enter("a", 1))


def test_time_outs_of_requests_older_than_an_answer_are_no_outage(gate):
    subject = gate()
    slow = [subject.enter(f"slow-{number}", 1) for number in range(2 * FAILURES)]
    time.sleep(0.005)
    subject.succeeded(subject.enter("quick", 1))
    for passage in slow:
        subject.failed(passage, unreachable=False)
    assert not subject.enter("next", 1).probe
