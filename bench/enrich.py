"""Drills of enrichment: real workers and a real Redis against a local Gemini that misbehaves. Each ends with a verdict.

    python bench/enrich.py storm    200 jobs; 30 % of the answers 429, 10 % 503, 5 % time-outs, 5 % invalid JSON
    python bench/enrich.py outage   Gemini is down for two minutes while messages arrive: nothing listens
    python bench/enrich.py overload the same, but it answers 503
    python bench/enrich.py hang     the same, but it takes requests and never answers
    python bench/enrich.py memory   50 jobs in flight in one process

`--sdk google-genai` takes the other SDK; `--short` is the form that fits into a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import gemini_server as google  # noqa: E402

from voicemill import Client  # noqa: E402

if TYPE_CHECKING:
    from voicemill import Job

THREADS = 16  # of the worker
WINDOW = 60.0  # seconds: what "a minute" means to the server
TEXT = "Please move our meeting with the design team to Thursday, and ask Mina to book the room. "


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drill", choices=list(DRILLS))
    parser.add_argument("--sdk", default="google-generativeai", choices=["google-generativeai", "google-genai"])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=random.randrange(1000), help="of the storm's dice")
    arguments = parser.parse_args()
    from cli.embedded import valkey

    with tempfile.TemporaryDirectory(prefix="voicemill-bench-") as folder, valkey(Path(folder), durable=False) as url:
        os.environ["REDIS_URL"] = url
        with Client() as client:
            failed, verdict = DRILLS[arguments.drill](client, arguments.sdk, arguments.short, arguments.seed)
    print(f"{'FAILED' if failed else 'PASSED'} {arguments.drill} ({arguments.sdk}): {verdict}")
    for promise in failed:
        print(f"  not kept: {promise}")
    return 1 if failed else 0


def storm(client: Client, sdk: str, short: bool, seed: int) -> tuple[list[str], str]:
    """Everything goes wrong now and then, under a limit; all jobs get their summary, and in good time."""
    count, limit, tries = (60, 60, 12) if short else (200, 150, 12)
    dice = random.Random(seed)
    lock = threading.Lock()

    def decide(_body: object) -> google.Answer | None:
        with lock:
            throw = dice.random()
        if throw < 0.30:
            return google.rate_limited(2)
        if throw < 0.40:
            return google.overloaded()
        if throw < 0.45:
            return google.Answer(delay=6)
        if throw < 0.50:
            return google.answer('{"title": "Half an ans')
        return google.Answer(delay=0.2)

    with google.GeminiServer(decide=decide) as server:
        settings = {"GEMINI_TIMEOUT": "3", "GEMINI_REQUESTS_PER_MINUTE": str(limit), "ENRICH_TRIES": str(tries)}
        with worker(client, server.url, sdk, threads=16, **settings):
            began = time.monotonic()
            ended = wait_for(client, send(client, count), 600)
            took = time.monotonic() - began
        times = sorted(request.at for request in server.generated())
        by_job: dict[str, int] = {}
        for request in server.generated():
            name = request.text.partition("Job ")[2].partition(".")[0]
            by_job[name] = by_job.get(name, 0) + 1
    fullest = max(sum(1 for at in times if start <= at < start + WINDOW) for start in times)
    steady = len(times) / limit * WINDOW  # as many requests at the limit's steady rate
    ideal = (len(times) - 1) // limit * WINDOW  # the limit lets a minute's worth go at once: no time is below this
    summaries = sum(job.enrichment is not None for job in ended)
    errors = [job.enrichment_error for job in ended if job.enrichment_error]
    codes = sorted({error.code for error in errors})
    # At a failure in two requests one job in 4,000 fails as often as the limit allows; no way leads there sooner.
    unfit = [
        error
        for error in errors
        if error.code != "enrich_invalid_answer"
        and not (error.code == "enrich_gave_up" and error.spent["tries"] >= tries)
    ]
    failed = [
        promise
        for promise, kept in {
            "all jobs done": all(job.status == "done" for job in ended),
            f"no error but of answers that never fit, or {tries} failures": not unfit,
            # A refusal that led to a hold on all jobs is forgiven, once.
            f"no job sent more than {tries} times (one repair and one forgiven aside)": max(by_job.values())
            <= tries + 2,
            f"never more than {limit} requests a minute": fullest <= limit,
            "within 1.3 times the ideal": took <= 1.3 * ideal,
        }.items()
        if not kept
    ]
    return failed, (
        f"seed {seed}, {len(ended)} jobs, {summaries} summaries, errors {codes}; "
        f"{len(times)} requests in {took:.0f} s, ideal {ideal:.0f} s ({took / ideal:.2f}), "
        f"{steady:.0f} s at a steady rate; most a job {max(by_job.values())}, most a minute {fullest} of {limit}"
    )


def outage(client: Client, sdk: str, short: bool, _seed: int) -> tuple[list[str], str]:
    """Nothing listens at Gemini's address."""
    return down(client, sdk, short)


def overload(client: Client, sdk: str, short: bool, _seed: int) -> tuple[list[str], str]:
    """Gemini answers 503; a few alone are no outage, and so calls follow soon at first, and later more seldom."""
    return down(client, sdk, short, google.overloaded(), faith=3 if short else 0)


def hang(client: Client, sdk: str, short: bool, _seed: int) -> tuple[list[str], str]:
    """Gemini takes requests and never answers; until the first time-out each thread sends one in good faith."""
    return down(client, sdk, short, google.Answer(delay=600), faith=THREADS)


def down(
    client: Client, sdk: str, short: bool, sign: google.Answer | None = None, faith: int = 0
) -> tuple[list[str], str]:
    """Gemini goes away while messages arrive; transcripts do not wait, hardly any call is made, every summary comes.

    `sign` is what it answers meanwhile (None: it does not listen), `faith` the calls allowed beyond one every 10 s.
    """
    lasts = 25.0 if short else 120.0
    timeout = "5" if short else "20"
    server = google.GeminiServer()
    port = server.port
    with server, worker(client, server.url, sdk, threads=THREADS, GEMINI_TIMEOUT=timeout):
        wait_for(client, send(client, 10), 60)
        before, seen = client.store.spending.totals()["requests"], len(server.requests)
        if sign is None:
            server.__exit__()
        else:
            server.decide = lambda _body: sign
        began = time.monotonic()
        sent, slowest = [], 0.0
        while time.monotonic() - began < lasts:
            at = time.monotonic()
            sent += send(client, 1)
            client.wait(sent[-1], timeout=5, until="transcribed")
            slowest = max(slowest, time.monotonic() - at)
            time.sleep(0.5)
        transcripts = sum(client.get(job).transcript is not None for job in sent)
        calls = len(server.requests) - seen if sign else client.store.spending.totals()["requests"] - before
        if sign:
            server.__exit__()
        with google.GeminiServer(port):
            back = time.monotonic()
            ended = wait_for(client, sent, 180)
            recovery = time.monotonic() - back
    summaries = sum(job.enrichment is not None for job in ended)
    allowed = int(lasts // 10) + 1 + faith
    failed = [
        promise
        for promise, kept in {
            "every transcript there at once": transcripts == len(sent) and slowest < 1,
            "every summary comes": summaries == len(sent),
            f"at most {allowed} calls meanwhile": calls <= allowed,
        }.items()
        if not kept
    ]
    return failed, (
        f"down {lasts:.0f} s, {len(sent)} messages, {transcripts} transcripts (slowest {slowest * 1000:.0f} ms), "
        f"{calls} calls; "
        f"{summaries} summaries, all within {recovery:.0f} s of its return"
    )


def memory(client: Client, sdk: str, short: bool, _seed: int) -> tuple[list[str], str]:
    """Fifty requests wait for Gemini at once in one process."""
    flying, most, lock = 0, 0, threading.Lock()
    full = threading.Event()

    def decide(_body: object) -> google.Answer:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
            if flying == 50:
                full.set()
        full.wait(20)
        with lock:
            flying -= 1
        return google.Answer(delay=0.5)

    rounds = 1 if short else 4
    with google.GeminiServer(decide=decide) as server, worker(client, server.url, sdk, threads=50) as process:
        for _ in range(rounds):
            full.clear()
            ended = wait_for(client, send(client, 50, TEXT * 200), 120)
        peak = max(high_water(pid) for pid in [process.pid, *children(process.pid)])
    done = sum(job.enrichment is not None for job in ended)
    failed = [
        promise
        for promise, kept in {
            "50 in flight": most == 50,
            "all done": done == 50,
            "under 250 MB": peak < 250,
        }.items()
        if not kept
    ]
    return failed, f"{rounds} x 50 jobs of {len(TEXT) * 200 // 1000} kB, {most} in flight at once, peak {peak:.0f} MB"


DRILLS = {"storm": storm, "outage": outage, "overload": overload, "hang": hang, "memory": memory}


# What the drills share


@contextlib.contextmanager
def worker(
    client: Client, endpoint: str, sdk: str, threads: int, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one worker of the stage, as in the Procfile."""
    environment = os.environ | variables
    environment |= {"GEMINI_API_KEY": google.KEY, "GEMINI_ENDPOINT": endpoint, "GEMINI_SDK": sdk, "LOG_FORMAT": "json"}
    options = ["--processes", "1", "--threads", str(threads), "--skip-logging"]
    command = [sys.executable, "-m", "dramatiq", "actors.enrich", *options]
    with Path(tempfile.gettempdir(), f"voicemill-bench-{os.getpid()}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
        try:
            wait_for(client, send(client, 1), 60)  # it is ready
            yield process
        finally:
            process.terminate()
            process.wait(60)


def send(client: Client, count: int, text: str = TEXT) -> list[str]:
    """Queue jobs for enrichment as the decode stage does with a duplicate, and return their ids."""
    from voicemill import Options

    jobs, sent = client.store.jobs, []
    for _ in range(count):
        job = str(uuid.uuid4())
        jobs.create(job, "bench.ogg", Options())
        jobs.begin(job, "decode", "bench")
        results = {"audio": {"duration": 5.0}, "transcript": {"text": f"Job {job}. {text}", "language": "en"}}
        jobs.finish(job, "decode", results, through="transcribe")
        sent.append(job)
    return sent


def wait_for(client: Client, sent: list[str], timeout: float) -> list[Job]:
    """Wait until jobs have ended, and return their records."""
    deadline = time.monotonic() + timeout
    return [client.wait(job, timeout=max(0.1, deadline - time.monotonic())) for job in sent]


def children(pid: int) -> list[int]:
    """The ids of a process's children, theirs included."""
    from processes import children as of

    return of(pid)


def high_water(pid: int) -> float:
    """The most memory that a process ever held, in MB."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
