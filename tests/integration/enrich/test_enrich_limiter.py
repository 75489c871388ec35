"""Rate limits and circuit breaker in a real Redis, where time passes when a test says so."""

import heapq
import time

import pytest
from live import current, store

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
from voicemill.errors import JobError
from voicemill.store import keys

MINUTE = 60.0  # seconds: a window so long that the run time of a test does not matter
SLACK = 10.0  # seconds that a test may take


@pytest.fixture
def limiter(redis_url):
    def make(requests=0, tokens=0, window=MINUTE, probe_interval=MINUTE, **options):
        return RequestLimiter(current(), requests, tokens, window, probe_interval, **options)

    return make


def delay(limiter, job, tokens=1):
    """Return the seconds that a job must wait; 0: it has a permit."""
    try:
        limiter.acquire(job, tokens)
    except JobError as error:
        return error.retry_after
    return 0


def pass_by(seconds):
    """Let time pass for the limiter's state in Redis."""
    client, passed = store.redis, int(seconds * 1000)
    for key in client.scan_iter(f"{keys.NAMESPACE}:enrich:*"):
        if client.type(key) == b"zset":  # scores are times
            for member in client.zrange(key, 0, -1):
                client.zincrby(key, -passed, member)
        if (left := client.pttl(key)) >= 0:
            client.pexpire(key, left - passed)


def about(seconds):
    """Match so many seconds, less the time that the test took."""
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

    before, after = zip(*went, strict=True)  # each permit was given in between
    assert all(later - earlier > MINUTE - 0.1 for earlier, later in zip(before, after[10:], strict=False))
    assert after[-1] - before[9] < 3 * MINUTE + SLACK, "three windows after the first one, and little more"


def test_tokens_are_limited_by_estimate_and_corrected_by_the_true_count(limiter):
    subject = limiter(tokens=100)
    first = subject.acquire("a", 60)
    assert delay(subject, "b", 60) == about(MINUTE)
    subject.record_success(first, 30)
    assert delay(subject, "b", 60) == 0


def test_a_request_larger_than_the_limit_is_sent_alone(limiter):
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
    assert delay(subject, "newcomer") > 1.5 * MINUTE, "later jobs wait longer"
    assert delay(subject, "long") == 0
    again = delay(subject, "long")
    assert again > delay(subject, "short"), "the long job's next request is behind the short job"


def test_tokens_are_reserved_for_jobs_whose_turn_has_come(limiter):
    subject, client = limiter(tokens=100, window=60, grace=20), store.redis
    assert delay(subject, "first", 40) == 0
    assert delay(subject, "second", 70) > 0
    client.zincrby("{voicemill}:enrich:waiting", -60_000, "second")  # as if its turn had come
    assert delay(subject, "newcomer", 50) > 0
    client.zrem("{voicemill}:enrich:waiting", "second", "newcomer")
    assert delay(subject, "newcomer", 50) == 0


def test_a_job_that_left_the_queue_blocks_no_others(limiter):
    subject = limiter(requests=1)
    delay(subject, "first")
    delay(subject, "gone")
    assert delay(subject, "patient") > 1.5 * MINUTE
    store.redis.zadd("{voicemill}:enrich:waiting", {"gone": 0})  # as if it was due long ago
    pass_by(MINUTE)
    assert delay(subject, "patient") == 0
    assert not store.redis.exists(*subject.keys("", "waiting", "sizes")), "its place expires"


@pytest.mark.parametrize("size", [60, 150])
def test_a_large_request_is_sent_although_small_ones_keep_coming(limiter, size):
    subject = limiter(tokens=100, grace=MINUTE / 5)
    now, smalls, due = 0.0, 0, MINUTE
    while now < 6 * MINUTE:
        pass_by(MINUTE / 50)
        now += MINUTE / 50
        if now > 0.22 * MINUTE * smalls:  # small requests use 80 to 100 of the 100 tokens per window
            smalls += 1
            delay(subject, f"small-{smalls}", 20)
        if now > due:
            wait = delay(subject, "large", size)
            if not wait:
                return
            due = now + wait
    pytest.fail("it was never sent")


def test_a_large_request_that_never_returns_blocks_small_ones_for_one_turn_only(limiter):
    subject = limiter(tokens=100, grace=MINUTE / 5)
    assert delay(subject, "first", 50) == 0
    wait = delay(subject, "gone", 90)
    pass_by(wait / 2)
    assert delay(subject, "second", 50) == 0
    pass_by(wait / 2)
    assert delay(subject, "gone", 90) > 0, "its turn came, so the next tokens are reserved for it"
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


def test_probes_become_rarer_the_longer_an_outage_lasts(limiter):
    subject, client, waits = limiter(probe_interval=10 * MINUTE), store.redis, []
    (probe,) = subject.keys("", "probe")
    fail(subject, FAILURES_TO_OPEN)
    for _ in range(25):
        client.delete(probe)  # as when it has expired
        permit = subject.acquire("a", 1)
        assert permit.probe
        subject.record_failure(permit, unreachable=True)
        waits.append(client.pttl(probe) / 1000)
    assert waits == [about(min(30, 11 + number) * MINUTE) for number in range(25)]


def test_jobs_stay_away_longer_the_longer_an_outage_lasts_and_the_breaker_expires(limiter):
    subject = limiter(probe_interval=10, uniform=lambda _least, most: most)
    client = store.redis
    breaker, probe = subject.keys("", "breaker", "probe")
    fail(subject, FAILURES_TO_OPEN)
    assert delay(subject, "b") < 10 + 5
    client.hincrby(breaker, "since", -120_000)  # as if it had begun two minutes ago
    client.delete(probe)
    fail(subject)
    assert 30 <= delay(subject, "b") < 60
    assert 0 < client.pttl(breaker) <= BREAKER_TTL * 1000


def test_a_successful_probe_clears_the_probe_interval(limiter):
    """Otherwise the rest of it would apply to another outage soon after."""
    subject, client = limiter(probe_interval=10), store.redis
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


def test_timeouts_of_requests_older_than_an_answer_are_not_an_outage(limiter):
    subject = limiter()
    slow = [subject.acquire(f"slow-{number}", 1) for number in range(2 * FAILURES_TO_OPEN)]
    time.sleep(0.002)  # the times are whole milliseconds
    subject.record_success(subject.acquire("quick", 1))
    for permit in slow:
        subject.record_failure(permit, unreachable=False)
    assert not subject.acquire("next", 1).probe


def test_after_a_failure_no_more_requests_are_in_flight_than_would_open_the_breaker(limiter):
    subject = limiter()
    fail(subject)
    others = [subject.acquire(f"other-{number}", 1) for number in range(FAILURES_TO_OPEN - 1)]
    assert 0 < delay(subject, "next") <= 1.5 * MAX_RECHECK
    subject.record_failure(others.pop(), unreachable=False)
    assert delay(subject, "next") > 0
    subject.record_success(others.pop())
    assert delay(subject, "next") == 0


def test_jobs_check_less_often_the_longer_a_request_in_flight_takes(limiter):
    subject = limiter(probe_interval=60)
    subject.acquire("slow", 1)
    fail(subject, FAILURES_TO_OPEN - 1)
    (flight,) = subject.keys("", "flight")
    ((slow, went),) = store.redis.zrange(flight, 0, -1, withscores=True)
    store.redis.zadd(flight, {slow: went + 60_000})  # as if it had just been sent
    assert 0.5 * MIN_RECHECK <= delay(subject, "b") <= 1.5 * MIN_RECHECK
    store.redis.zadd(flight, {slow: went - 2_000})
    assert 1 <= delay(subject, "b") <= 1.5 * MAX_RECHECK
    store.redis.zadd(flight, {slow: went - 30_000})
    assert 0.5 * MAX_RECHECK <= delay(subject, "b") <= 1.5 * MAX_RECHECK


def test_a_request_that_hangs_blocks_others_for_one_probe_interval_only(limiter):
    subject = limiter()
    subject.acquire("hangs", 1)
    fail(subject, FAILURES_TO_OPEN - 1)
    assert delay(subject, "b") > 0
    pass_by(MINUTE)
    assert delay(subject, "b") == 0


def test_several_rate_limited_jobs_in_a_row_hold_all_requests_and_blame_no_job(limiter):
    subject = limiter()
    jobs = [f"job-{number}" for number in range(RATE_LIMITS_TO_HOLD)]
    permits = [subject.acquire(job, 1) for job in jobs]
    shared = [sorted(subject.record_rate_limit(permit, job, MINUTE)) for permit, job in zip(permits, jobs, strict=True)]
    assert shared == [[]] * (RATE_LIMITS_TO_HOLD - 1) + [jobs], "the last one shows that no job is the cause"
    assert MINUTE - SLACK < delay(subject, "d") <= 1.25 * MINUTE
    pass_by(MINUTE)

    permit = subject.acquire("d", 1)
    assert delay(subject, "e") == 0
    assert delay(subject, "f") > 0, "two in flight at first"
    subject.record_success(permit)
    assert [delay(subject, job) for job in "fg"] == [0, 0]
    assert delay(subject, "h") > 0, "three then"


def test_a_hold_is_never_shortened_and_never_longer_than_a_quota_recheck(limiter):
    subject, client = limiter(), store.redis
    (hold,) = subject.keys("", "hold")
    jobs = [f"job-{number}" for number in range(RATE_LIMITS_TO_HOLD + 1)]
    permits = [subject.acquire(job, 1) for job in jobs]
    for permit, job, seconds in zip(permits, jobs, [86_400] * RATE_LIMITS_TO_HOLD + [0.1], strict=True):
        subject.record_rate_limit(permit, job, seconds)
    assert QUOTA_RECHECK / 2 < client.pttl(hold) / 1000 <= QUOTA_RECHECK


def test_enough_answers_end_the_recovery(limiter):
    subject, client = limiter(), store.redis
    for number in range(RATE_LIMITS_TO_HOLD):
        subject.record_rate_limit(subject.acquire("a", 1), f"job-{number}", 60)
    client.delete(*subject.keys("", "hold"))  # as when it has expired
    for _ in range(RECOVERED):
        subject.record_success(subject.acquire("a", 1))
    assert not any(delay(subject, f"at-once-{number}") for number in range(2 * RECOVERED))


def test_a_job_that_is_rate_limited_during_a_hold_is_innocent(limiter):
    subject = limiter()
    jobs = [f"job-{number}" for number in range(RATE_LIMITS_TO_HOLD + 2)]
    permits = [subject.acquire(job, 1) for job in jobs]
    shared = [subject.record_rate_limit(permit, job, MINUTE) for permit, job in zip(permits, jobs, strict=True)]
    assert shared[RATE_LIMITS_TO_HOLD:] == [[job] for job in jobs[RATE_LIMITS_TO_HOLD:]]


def test_an_answer_between_two_rate_limits_shows_that_the_jobs_caused_them(limiter):
    subject = limiter()
    for job in "abcd"[:RATE_LIMITS_TO_HOLD]:
        assert subject.record_rate_limit(subject.acquire(job, 1), job, MINUTE) == []
        subject.record_success(subject.acquire("another", 1))


def test_one_rate_limited_job_holds_no_others(limiter):
    subject = limiter()
    assert not any(subject.record_rate_limit(subject.acquire("a", 1), "a", 5) for _ in range(2 * RATE_LIMITS_TO_HOLD))
    assert delay(subject, "b") == 0


def test_after_a_pause_one_request_checks_whether_the_quota_is_renewed(limiter):
    subject = limiter()
    subject.pause(MINUTE)
    assert 0 < delay(subject, "a") <= 1.25 * MINUTE
    pass_by(MINUTE)
    assert delay(subject, "a") == 0
    assert delay(subject, "b") > 0


def test_one_models_trouble_does_not_hold_another(limiter):
    subject = limiter()
    subject.pause(60, "flash")
    subject.record_failure(subject.acquire("a", 1, "pro"), unreachable=True)
    assert not subject.acquire("a", 1, "lite").probe
    for model in ("flash", "pro"):
        with pytest.raises(JobError):
            subject.acquire("a", 1, model)
