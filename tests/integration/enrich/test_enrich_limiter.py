"""Rate limits and circuit breaker in a real Redis, where time passes when a test says so."""

import heapq
import time

import pytest

from pipeline import connection
from pipeline.enrich.limiter import (
    BREAKER_TTL,
    FAILURES_TO_OPEN,
    MAX_RECHECK,
    MIN_RECHECK,
    QUOTA_RECHECK,
    RATE_LIMITS_TO_HOLD,
    RECOVERED,
    RequestLimiter,
)
from pipeline.errors import JobError

MINUTE = 60.0  # seconds, a window; against them it does not tell how long the test itself took
SLACK = 10.0  # seconds by which it may be slow


@pytest.fixture
def limiter(redis_url):
    def make(requests=0, tokens=0, window=MINUTE, probe_interval=MINUTE, **options):
        return RequestLimiter(requests, tokens, window, probe_interval, **options)

    return make


def delay(limiter, job, tokens=1):
    """Seconds that a job is told to wait; 0: it may go."""
    try:
        limiter.acquire(job, tokens)
    except JobError as error:
        return error.retry_after
    return 0


def pass_by(seconds):
    """Let so much time pass for what the limiter keeps in Redis."""
    client, passed = connection.client(), int(seconds * 1000)
    for key in client.scan_iter(f"{connection.NAMESPACE}:enrich:*"):
        if client.type(key) == b"zset":  # scores are times
            for member in client.zrange(key, 0, -1):
                client.zincrby(key, -passed, member)
        if (left := client.pttl(key)) >= 0:
            client.pexpire(key, left - passed)


def about(seconds):
    """What is left of so many seconds after the test's own slowness."""
    return pytest.approx(seconds - SLACK / 2, abs=SLACK / 2 + 0.1)


def test_no_window_ever_holds_more_requests_than_allowed(limiter):
    subject = limiter(requests=10)
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


def test_tokens_are_limited_as_well_and_corrected_by_what_was_true(limiter):
    subject = limiter(tokens=100)
    first = subject.acquire("a", 60)
    assert delay(subject, "b", 60) == about(MINUTE)
    subject.record_success(first, 30)
    assert delay(subject, "b", 60) == 0


def test_a_request_larger_than_the_limit_goes_alone_rather_than_never(limiter):
    subject = limiter(tokens=100)
    assert delay(subject, "giant", 1000) == 0
    assert delay(subject, "small", 1) == about(MINUTE)


def test_a_job_with_many_requests_waits_in_turn_with_the_others(limiter):
    subject = limiter(requests=1)
    assert delay(subject, "long") == 0
    first, second = delay(subject, "long"), delay(subject, "short")
    assert first == about(MINUTE)
    assert second == about(2 * MINUTE), "its place is behind"
    pass_by(first)
    assert delay(subject, "newcomer") > 1.5 * MINUTE, "who comes later waits longer"
    assert delay(subject, "long") == 0
    again = delay(subject, "long")
    assert again > delay(subject, "short"), "the long job's next request stands behind the short job"


def test_room_for_tokens_is_kept_for_those_whose_turn_it_is(limiter):
    subject, client = limiter(tokens=100, window=60, grace=20), connection.client()
    assert delay(subject, "first", 40) == 0
    assert delay(subject, "second", 70) > 0
    client.zincrby("{voicemill}:enrich:waiting", -60_000, "second")  # as if its turn had come
    assert delay(subject, "newcomer", 50) > 0
    client.zrem("{voicemill}:enrich:waiting", "second", "newcomer")
    assert delay(subject, "newcomer", 50) == 0


def test_who_left_the_queue_for_good_holds_up_nobody(limiter):
    subject = limiter(requests=1)
    delay(subject, "first")
    delay(subject, "gone")
    assert delay(subject, "patient") > 1.5 * MINUTE
    connection.client().zadd("{voicemill}:enrich:waiting", {"gone": 0})  # as if it was due long ago
    pass_by(MINUTE)
    assert delay(subject, "patient") == 0
    assert not connection.client().exists(*subject.keys("", "waiting", "sizes")), "its place is not kept for ever"


@pytest.mark.parametrize("size", [60, 150])
def test_a_large_request_goes_although_small_ones_keep_coming(limiter, size):
    subject = limiter(tokens=100, grace=MINUTE / 5)
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


def test_a_large_request_that_never_comes_back_holds_up_the_small_ones_for_a_turn_alone(limiter):
    subject = limiter(tokens=100, grace=MINUTE / 5)
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


def fail(limiter, times=1):
    """Send requests that fail."""
    for number in range(times):
        limiter.record_failure(limiter.acquire(f"failing-{number}", 1), unreachable=False)


def test_failures_in_a_row_open_the_breaker_for_all_but_a_probe(limiter):
    subject = limiter()
    fail(subject, FAILURES_TO_OPEN - 1)
    permit = subject.acquire("a", 1)
    assert not permit.probe
    subject.record_failure(permit, unreachable=False)

    with pytest.raises(JobError) as caught:
        subject.acquire("a", 1)
    assert caught.value.code == "enrich_unavailable"
    assert 0 < caught.value.retry_after <= MINUTE + SLACK

    pass_by(caught.value.retry_after)
    permits = []
    for job in "abcdef":
        try:
            permits.append(subject.acquire(job, 1))
        except JobError:
            continue
    assert [permit.probe for permit in permits] == [True]

    subject.record_success(permits[0])
    assert not subject.acquire("b", 1).probe


def test_the_longer_an_outage_lasts_the_fewer_are_its_probes(limiter):
    subject, client, waits = limiter(probe_interval=10 * MINUTE), connection.client(), []
    (probe,) = subject.keys("", "probe")
    fail(subject, FAILURES_TO_OPEN)
    for _ in range(25):
        client.delete(probe)  # as when it has expired
        permit = subject.acquire("a", 1)
        assert permit.probe
        subject.record_failure(permit, unreachable=True)
        waits.append(client.pttl(probe) / 1000)
    assert waits == [about(min(30, 11 + number) * MINUTE) for number in range(25)]


def test_the_longer_an_outage_lasts_the_longer_jobs_stay_away_and_it_is_forgotten_at_last(limiter):
    subject = limiter(probe_interval=10, uniform=lambda _least, most: most)
    client = connection.client()
    breaker, probe = subject.keys("", "breaker", "probe")
    fail(subject, FAILURES_TO_OPEN)
    assert delay(subject, "b") < 10 + 5
    client.hincrby(breaker, "since", -120_000)  # as if it had begun two minutes ago
    client.delete(probe)
    fail(subject)
    assert 30 <= delay(subject, "b") < 60
    assert 0 < client.pttl(breaker) <= BREAKER_TTL * 1000


def test_the_probe_that_is_answered_takes_its_hold_along(limiter):
    """Another outage soon after would else be judged by what is left of it."""
    subject, client = limiter(probe_interval=10), connection.client()
    (probe,) = subject.keys("", "probe")
    fail(subject, FAILURES_TO_OPEN)
    client.delete(probe)  # as when it has expired
    permit = subject.acquire("a", 1)
    assert permit.probe
    subject.record_success(permit)
    assert not client.exists(probe)


def test_a_success_between_failures_keeps_the_breaker_closed(limiter):
    subject = limiter()
    for _ in range(3 * FAILURES_TO_OPEN):
        fail(subject)
        subject.record_success(subject.acquire("a", 1))


def test_time_outs_of_requests_older_than_an_answer_are_no_outage(limiter):
    subject = limiter()
    slow = [subject.acquire(f"slow-{number}", 1) for number in range(2 * FAILURES_TO_OPEN)]
    time.sleep(0.002)  # the times are whole milliseconds
    subject.record_success(subject.acquire("quick", 1))
    for permit in slow:
        subject.record_failure(permit, unreachable=False)
    assert not subject.acquire("next", 1).probe


def test_after_a_failure_no_more_are_on_their_way_than_would_open_the_breaker(limiter):
    subject = limiter()
    fail(subject)
    others = [subject.acquire(f"other-{number}", 1) for number in range(FAILURES_TO_OPEN - 1)]
    assert 0 < delay(subject, "next") <= 1.5 * MAX_RECHECK
    subject.record_failure(others.pop(), unreachable=False)
    assert delay(subject, "next") > 0
    subject.record_success(others.pop())
    assert delay(subject, "next") == 0


def test_who_waits_for_one_request_looks_the_less_often_the_longer_that_takes(limiter):
    subject = limiter(probe_interval=60)
    subject.acquire("slow", 1)
    fail(subject, FAILURES_TO_OPEN - 1)
    (flight,) = subject.keys("", "flight")
    ((slow, went),) = connection.client().zrange(flight, 0, -1, withscores=True)
    connection.client().zadd(flight, {slow: went + 60_000})  # as if it had only just gone
    assert 0.5 * MIN_RECHECK <= delay(subject, "b") <= 1.5 * MIN_RECHECK
    connection.client().zadd(flight, {slow: went - 2_000})
    assert 1 <= delay(subject, "b") <= 1.5 * MAX_RECHECK
    connection.client().zadd(flight, {slow: went - 30_000})
    assert 0.5 * MAX_RECHECK <= delay(subject, "b") <= 1.5 * MAX_RECHECK


def test_a_request_that_hangs_holds_up_the_others_no_longer_than_a_probe(limiter):
    subject = limiter()
    subject.acquire("hangs", 1)
    fail(subject, FAILURES_TO_OPEN - 1)
    assert delay(subject, "b") > 0
    pass_by(MINUTE)
    assert delay(subject, "b") == 0


def test_a_limit_that_several_jobs_run_into_one_after_another_holds_all_back_and_is_nobodys_fault(limiter):
    subject = limiter()
    jobs = [f"job-{number}" for number in range(RATE_LIMITS_TO_HOLD)]
    permits = [subject.acquire(job, 1) for job in jobs]
    shared = [sorted(subject.record_rate_limit(permit, job, MINUTE)) for permit, job in zip(permits, jobs, strict=True)]
    assert shared == [[]] * (RATE_LIMITS_TO_HOLD - 1) + [jobs], "with the last it is known that none was at fault"
    assert MINUTE - SLACK < delay(subject, "d") <= 1.25 * MINUTE
    pass_by(MINUTE)

    permit = subject.acquire("d", 1)
    assert delay(subject, "e") == 0
    assert delay(subject, "f") > 0, "two at a time at first"
    subject.record_success(permit)
    assert [delay(subject, job) for job in "fg"] == [0, 0]
    assert delay(subject, "h") > 0, "three then"


def test_a_hold_is_no_shorter_for_a_later_wish_and_no_longer_than_a_pause(limiter):
    subject, client = limiter(), connection.client()
    (hold,) = subject.keys("", "hold")
    jobs = [f"job-{number}" for number in range(RATE_LIMITS_TO_HOLD + 1)]
    permits = [subject.acquire(job, 1) for job in jobs]
    for permit, job, seconds in zip(permits, jobs, [86_400] * RATE_LIMITS_TO_HOLD + [0.1], strict=True):
        subject.record_rate_limit(permit, job, seconds)
    assert QUOTA_RECHECK / 2 < client.pttl(hold) / 1000 <= QUOTA_RECHECK


def test_after_enough_answers_no_request_is_held_back_any_more(limiter):
    subject, client = limiter(), connection.client()
    for number in range(RATE_LIMITS_TO_HOLD):
        subject.record_rate_limit(subject.acquire("a", 1), f"job-{number}", 60)
    client.delete(*subject.keys("", "hold"))  # as when it has expired
    for _ in range(RECOVERED):
        subject.record_success(subject.acquire("a", 1))
    assert not any(delay(subject, f"at-once-{number}") for number in range(2 * RECOVERED))


def test_who_is_refused_once_it_is_known_that_all_are_is_without_fault(limiter):
    subject = limiter()
    jobs = [f"job-{number}" for number in range(RATE_LIMITS_TO_HOLD + 2)]
    permits = [subject.acquire(job, 1) for job in jobs]
    shared = [subject.record_rate_limit(permit, job, MINUTE) for permit, job in zip(permits, jobs, strict=True)]
    assert shared[RATE_LIMITS_TO_HOLD:] == [[job] for job in jobs[RATE_LIMITS_TO_HOLD:]]


def test_an_answer_between_two_refusals_tells_that_they_were_the_jobs_own(limiter):
    subject = limiter()
    for job in "abcd"[:RATE_LIMITS_TO_HOLD]:
        assert subject.record_rate_limit(subject.acquire(job, 1), job, MINUTE) == []
        subject.record_success(subject.acquire("another", 1))


def test_a_limit_that_one_job_alone_runs_into_holds_nobody_else_back(limiter):
    subject = limiter()
    assert not any(subject.record_rate_limit(subject.acquire("a", 1), "a", 5) for _ in range(2 * RATE_LIMITS_TO_HOLD))
    assert delay(subject, "b") == 0


def test_after_the_days_quota_one_request_looks_whether_it_is_back(limiter):
    subject = limiter()
    subject.pause(MINUTE)
    assert 0 < delay(subject, "a") <= 1.25 * MINUTE
    pass_by(MINUTE)
    assert delay(subject, "a") == 0
    assert delay(subject, "b") > 0


def test_what_holds_one_model_back_does_not_hold_another(limiter):
    subject = limiter()
    subject.pause(60, "flash")
    subject.record_failure(subject.acquire("a", 1, "pro"), unreachable=True)
    assert not subject.acquire("a", 1, "lite").probe
    for model in ("flash", "pro"):
        with pytest.raises(JobError):
            subject.acquire("a", 1, model)
