"""The webhook drill: receivers that are down, answer 500, are slow or redirect, while jobs end all the time.

    python bench/webhook.py [--minutes 10] [--rate 2]

One worker as in the Procfile, with the settings' own back-off; receivers on loopback that verify all with the
standardwebhooks library. For the middle half of the time one receiver refuses connections and one answers 500. Writes
bench/results/webhook.json; the exit code is 1 where something was lost, doubled, out of order, or went to loopback.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from receiver import SECRET, Receiver  # noqa: E402 - the repository is not installed

from cli.embedded import valkey  # noqa: E402
from cli.supervisor import procfile  # noqa: E402
from voicemill import Client, ErrorCode, JobError, Options  # noqa: E402

SHARES = {"good": 0.4, "down": 0.25, "errors": 0.25, "slow": 0.07, "redirects": 0.03}  # of the jobs, by receiver
LATE = 1.0  # seconds: the healthy receiver is to hear 99 % of all within this, whatever the others do
PATIENCE = 900.0  # seconds after the last job until everything has to be delivered
SLOWNESS = 3.0  # seconds that the slow receiver takes
TEXT = "Bitte rufen Sie mich heute Nachmittag zurück. " * 20


class World:
    """The receivers, and what they are to have got."""

    def __init__(self, minutes):
        self.began = time.monotonic()
        self.seconds = minutes * 60
        self.trap = Receiver()
        self.receivers = {name: Receiver() for name in SHARES}
        self.port = self.receivers["down"].server_port
        self.taken_before = []  # by the receiver that went down
        self.told_at, self.heard_at = {}, {}
        self.expected = {name: {} for name in SHARES}  # events in their order, by job
        self.requests = Counter()  # while they were failing
        self.receivers["errors"].behave = self.errs
        self.receivers["slow"].behave = self.is_slow
        self.receivers["redirects"].behave = lambda _got: (302, {"Location": self.trap.url()})
        self.receivers["good"].behave = self.hears

    @property
    def failing(self):
        """Whether this is the middle half of the time."""
        return 0.25 <= (time.monotonic() - self.began) / self.seconds < 0.75

    def errs(self, _got):
        """Answer for the receiver with the 500s."""
        if self.failing:
            self.requests["errors"] += 1
            return 500
        return 200

    def is_slow(self, _got):
        """Answer for the slow receiver."""
        self.receivers["slow"].wait(SLOWNESS)
        return 200

    def hears(self, got):
        """Answer for the healthy receiver."""
        self.heard_at[got.id] = time.time()
        return 200

    def outage(self):
        """Take one receiver away, and bring it back on the same port."""
        time.sleep(self.seconds / 4)
        gone = self.receivers["down"]
        gone.close()
        time.sleep(self.seconds / 2)
        back = Receiver(port=self.port)
        self.taken_before = gone.got
        self.receivers["down"] = back

    def got(self, name):
        """What a receiver took."""
        earlier = [got for got in self.taken_before if 200 <= got.answered < 300] if name == "down" else []
        return earlier + self.receivers[name].taken

    def url(self, name):
        """A receiver's address; it stays the same while it is down."""
        port = self.port if name == "down" else self.receivers[name].server_port
        return f"http://127.0.0.1:{port}/hook?token=secret"


def jobs_end(world, jobs, rate):
    """End jobs as the stages would, until the time is over."""
    dice = random.Random(7)
    names = iter(range(10**9))
    while time.monotonic() - world.began < world.seconds:
        name = dice.choices(list(SHARES), list(SHARES.values()))[0]
        job_id = f"job-{next(names)}"
        jobs.create(job_id, "voice.ogg", Options(callback_url=world.url(name)))
        end = dice.choices(["done", "failed", "cancelled"], [8, 1, 1])[0]
        if end == "done":
            jobs.finish(job_id, "transcribe", {"transcript": {"text": TEXT}})
            world.told_at[f"msg_{job_id}_1"] = time.time()
            jobs.finish(job_id, "enrich", {"enrichment": {"summary": "Bitte um Rückruf"}})
            world.told_at[f"msg_{job_id}_2"] = time.time()
            world.expected[name][job_id] = ["job.transcribed", "job.done"]
        else:
            if end == "failed":
                jobs.fail(job_id, "decode", JobError(ErrorCode.UNDECODABLE, "it is a letter"))
            else:
                jobs.cancel(job_id)
            world.told_at[f"msg_{job_id}_1"] = time.time()
            world.expected[name][job_id] = [f"job.{end}"]
        time.sleep(dice.expovariate(rate))


def judge(world):
    """Return what is wrong, a sentence each."""
    wrong = []
    for name in set(SHARES) - {"redirects"}:
        heard = {}
        for got in world.got(name):
            heard.setdefault(got.job, []).append(got.type)
        for job_id, events in world.expected[name].items():
            if heard.get(job_id) != events:
                wrong.append(f"{name} heard {heard.get(job_id, 'nothing')} of {job_id}, not {events}")
    if world.got("redirects"):
        wrong.append("the receiver that only redirects has taken something")
    if world.trap.got or world.trap.forged:
        wrong.append(f"{len(world.trap.got) + world.trap.forged} requests followed a redirect to loopback")
    forged = sum(receiver.forged for receiver in world.receivers.values())
    if forged:
        wrong.append(f"{forged} deliveries could not be verified")
    return wrong


def delivered(world):
    """Whether everything is delivered that can be."""
    return all(
        len(world.got(name)) >= sum(map(len, world.expected[name].values())) for name in set(SHARES) - {"redirects"}
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="for how long jobs end")
    parser.add_argument("--rate", type=float, default=2.0, help="jobs that end in a second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), durable=False) as url, Client(url) as client:
        os.environ["REDIS_URL"] = url
        environment = os.environ | {"WEBHOOK_SECRET": SECRET, "LOG_FORMAT": "json"}
        environment |= {"WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_ALLOW_PRIVATE": "true"}
        command = [str(Path(sys.executable).with_name("dramatiq")), *procfile()["webhook"][1:]]
        with (Path(folder) / "worker.log").open("w+") as log:
            worker = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
            try:
                return drill(arguments, log, worker, client.store)
            finally:
                worker.terminate()
                worker.wait(60)


def drill(arguments, log, worker, store):
    """Run it and report."""
    world = World(arguments.minutes)
    outage = threading.Thread(target=world.outage)
    outage.start()
    jobs_end(world, store.jobs, arguments.rate)
    outage.join()
    ended = time.monotonic()
    while not delivered(world) and time.monotonic() - ended < PATIENCE and worker.poll() is None:
        time.sleep(0.5)
    took = time.monotonic() - ended
    for receiver in (*world.receivers.values(), world.trap):
        receiver.close()
    wrong = judge(world)
    delays = sorted(world.heard_at[name] - at for name, at in world.told_at.items() if name in world.heard_at)
    p50, p99 = statistics.median(delays), delays[int(len(delays) * 0.99)]
    if p99 > LATE:
        wrong.append(f"the healthy receiver waited {p99:.2f} s at the 99th percentile")
    lines = Path(log.name).read_text()
    stuck = [store.jobs.get(job_id).webhook.last_error for job_id in world.expected["redirects"]]
    codes = Counter(error.code if error else "not tried: the receiver is left alone" for error in stuck)
    if "secret" in lines:
        wrong.append("the query of an address is in the log")
    results = {
        "minutes": arguments.minutes,
        "jobs": sum(map(len, world.expected.values())),
        "events_by_receiver": {name: len(world.got(name)) for name in SHARES},
        "healthy_p50_s": round(p50, 4),
        "healthy_p99_s": round(p99, 4),
        "requests_while_answering_500": world.requests["errors"],
        "requests_while_down": sum(
            f":{world.port}" in line and '"code": "webhook_unreachable"' in line for line in lines.splitlines()
        ),
        "to_loopback_by_redirect": len(world.trap.got) + world.trap.forged,
        "redirected_jobs": dict(codes),
        "all_delivered_after_last_job_s": round(took, 1),
        "counts": store.outbox.counts(),
    }
    (ROOT / "bench" / "results" / "webhook.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))
    for line in wrong[:20]:
        print(f"  {line}")
    events = sum(results["events_by_receiver"].values())
    print(
        f"FAIL: {len(wrong)} things are wrong"
        if wrong
        else f"PASS: {events} events delivered once, verified, in order for each job; nothing went to loopback"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
