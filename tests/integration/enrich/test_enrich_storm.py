"""Short forms of the drills in `bench/enrich.py`: many jobs, a failing Gemini, and a heap as the queue."""

import dataclasses
import heapq
import random
import threading
import time
from itertools import pairwise

import gemini_server as google
from live import current

from pipeline.enrich.enricher import Backoff
from pipeline.enrich.limiter import RequestLimiter
from voicemill.errors import JobError

TRANSCRIPT = {"text": "Please move the review to Thursday.", "language": "en"}


def run(subject, jobs, threads=8):
    """Enrich jobs as the actor does, with delayed retries; return each job's result and all delays."""
    heap, results, waits, lock = [(0.0, job) for job in jobs], {}, [], threading.Condition()

    def work():
        while True:
            with lock:
                while len(results) < len(jobs) and (not heap or heap[0][0] > time.monotonic()):
                    lock.wait(max(0.005, heap[0][0] - time.monotonic()) if heap else 0.05)
                if len(results) == len(jobs):
                    return
                _due, job = heapq.heappop(heap)
            try:
                outcome = subject.enrich(job, TRANSCRIPT)["tries"]
            except JobError as error:
                if error.retry_after is not None:
                    waits.append(error.retry_after)
                    with lock:
                        heapq.heappush(heap, (time.monotonic() + error.retry_after, job))
                        lock.notify_all()
                    continue
                outcome = error.code
            with lock:
                results[job] = outcome
                lock.notify_all()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results, waits


@dataclasses.dataclass(frozen=True)
class RecordingLimiter(RequestLimiter):
    """Records when it permitted each request, in milliseconds of Redis's clock; a request may reach Gemini late."""

    times: list[int] = dataclasses.field(default_factory=list)

    def acquire(self, *arguments):
        permit = super().acquire(*arguments)
        self.times.append(permit.at)
        return permit


def test_a_storm_of_failures_fails_no_job_and_never_exceeds_the_limit(gemini, enricher):
    dice, lock = random.Random(3), threading.Lock()

    def decide(_body):
        with lock:
            throw = dice.random()
        if throw < 0.40:
            return google.rate_limited(0.2) if throw < 0.30 else google.overloaded()
        return google.answer("spoiled") if throw < 0.45 else None

    gemini.decide = decide
    limiter = RecordingLimiter(current(), 20, 0, window=1.6, probe_interval=0.2)
    subject = enricher(limiter=limiter, backoff=Backoff(minimum=0.1), enrich_tries=20)
    results, _waits = run(subject, [f"job-{number}" for number in range(40)])

    assert len(results) == 40
    assert {outcome for outcome in results.values() if isinstance(outcome, str)} <= {"enrich_invalid_answer"}
    times = sorted(limiter.times)
    assert len(times) == len(gemini.generated()) > 50, "the storm was one"
    assert all(later - earlier >= 1600 for earlier, later in zip(times, times[20:], strict=False))


def test_geminis_own_rate_limit_fails_no_job_and_costs_few_requests(gemini, enricher):
    went, window, lock = [], 0.6, threading.Lock()

    def decide(_body):
        with lock:
            now = time.monotonic()
            went[:] = [at for at in went if now < at + window]
            if len(went) == 4:
                return google.rate_limited(round(went[0] + window - now, 3) + 0.001)
            went.append(now)
            return google.Answer(delay=0.02)

    gemini.decide = decide
    subject = enricher(limiter=RequestLimiter(current(), 0, 0, min_recheck=0.1), enrich_tries=4)
    results, _waits = run(subject, [f"job-{number}" for number in range(12)], threads=12)

    assert all(isinstance(outcome, int) for outcome in results.values()), results
    assert len(gemini.requests) < 4 * len(results)


def test_an_outage_costs_one_request_per_probe_interval_and_no_summary(gemini, enricher):
    limiter = RecordingLimiter(current(), 0, 0, probe_interval=0.5, failures_to_open=1, max_spread=0.3)
    subject = enricher(limiter=limiter, enrich_tries=2)
    gemini.plan(*[google.overloaded()] * 4)

    results, waits = run(subject, [f"job-{number}" for number in range(30)], threads=1)

    assert all(isinstance(outcome, int) for outcome in results.values()), "probes count against no job"
    assert [request.status for request in gemini.requests] == [503] * 4 + [200] * 30
    assert all(later - earlier >= 500 for earlier, later in pairwise(limiter.times[:5]))
    assert max(waits) < 3, "all jobs return soon after the outage"
