"""What Voicemill asks of Redis: commands of an idle system, of a job by who sends them, and a finished job's memory.

    python bench/redis_cost.py [--jobs 40] [--idle 60]

The Procfile's workers, the bundled model and no key of Gemini, on a Valkey of their own whose MONITOR is read; a script
counts as one command, as providers bill it, and so does each part of a pipeline. Writes bench/results/redis-cost.json.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import redis  # noqa: E402 - the repository is not installed
from processes import becomes  # noqa: E402

from cli.embedded import valkey  # noqa: E402
from cli.supervisor import Supervisor, procfile  # noqa: E402
from voicemill import Client  # noqa: E402
from voicemill.lifecycle import QUEUES  # noqa: E402
from voicemill.store import keys  # noqa: E402

VOICE = ROOT / "samples" / "voice-message.ogg"
VARIABLES = {"WHISPER_MODEL": "bundled:tiny.en", "WHISPER_DEVICE": "cpu", "WHISPER_CPU_REPLICAS": "1"}
ALONE = {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "", "LOG_FORMAT": "json"}


class Monitor:
    """Counts commands by the name of the client that sent them."""

    def __init__(self, url):
        self.client = redis.Redis.from_url(url, client_name="monitor")
        self.counts, self.names = Counter(), {}
        self.thread = threading.Thread(target=self.read)

    def __enter__(self):
        self.began = time.monotonic()
        self.ready = threading.Event()
        self.thread.start()
        self.ready.wait(10)
        return self

    def read(self):
        """Read until the end is said."""
        with self.client.monitor() as monitor:
            self.ready.set()
            for seen in monitor.listen():
                if seen["command"] == "ECHO the end":
                    return
                if seen["client_type"] == "lua":
                    continue
                self.counts[f"{seen['client_address']}:{seen['client_port']}"] += 1

    def __exit__(self, *_):
        self.seconds = time.monotonic() - self.began
        listed = {entry["addr"]: entry["name"] for entry in self.client.client_list()}
        self.client.echo("the end")
        self.thread.join()
        self.by_name = Counter()
        for address, count in self.counts.items():
            name = listed.get(address, "voicemill")
            if name != "monitor":
                self.by_name[name.removeprefix("voicemill-")] += count
        self.client.close()


def memory(client, job):
    """What Redis keeps of a finished job (bytes)."""
    return sum(client.store.redis.memory_usage(key) for key in (keys.record(job), keys.events(job)))


def measure(client, url, count, idle):
    """Return the figures."""
    with Monitor(url) as quiet:
        time.sleep(idle)
    rates = {name: number / quiet.seconds for name, number in quiet.by_name.items()}
    source = client.upload(VOICE.read_bytes())
    client.wait(client.send(source, language="en").id, 60)  # the first one loads and looks around
    sent = []
    with Monitor(url) as busy:
        for _ in range(count):
            sent.append(client.send(source, language="en").id)
            assert client.wait(sent[-1], 60).status == "done"
    per_job = {
        "backend" if name == "voicemill" else name: (number - rates.get(name, 0) * busy.seconds) / count
        for name, number in busy.by_name.items()
    }
    return {
        "idle_commands_a_second": {name: round(rate, 2) for name, rate in sorted(rates.items())},
        "idle_commands_a_day": round(sum(rates.values()) * 86400),
        "commands_a_job": {name: round(number, 1) for name, number in sorted(per_job.items())},
        "commands_a_job_in_all": round(sum(per_job.values()), 1),
        "finished_job_bytes": round(sum(memory(client, job) for job in sent) / count),
        "transcript_characters": len(client.get(sent[-1]).transcript.text),
        "jobs": count,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), durable=False) as url, Client(url) as client:
        os.environ["REDIS_URL"] = url
        stages = Supervisor(procfile(), dict(os.environ) | VARIABLES | ALONE, lambda *_: None, 30)
        stages.start()
        try:
            alive = client.store.workers.alive
            there = lambda: {name for worker in alive() for name in worker.stages} >= set(QUEUES)  # noqa: E731
            assert becomes(there, 90)
            figures = measure(client, url, chosen.jobs, chosen.idle)
        finally:
            stages.stop()
    (ROOT / "bench" / "results" / "redis-cost.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    day, job = figures["idle_commands_a_day"], figures["commands_a_job_in_all"]
    print(f"Redis: {day} commands a day by idle workers of all four queues, {job} for a job")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
