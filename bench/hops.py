"""What the queue itself costs: three no-op hops on an idle system, a backlog, and an idle worker's commands.

    python bench/hops.py [--messages 200] [--backlog 3000]

Each figure is taken from Voicemill's broker and from Dramatiq's own, in turn, with real worker processes of the
`dramatiq` command on a Valkey of their own. Writes bench/results/hops.json; the exit code is 1 where a floor is missed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cli.embedded import valkey  # noqa: E402 - the repository is not installed

STAGES = ("one", "two", "three")
FLOORS = {"p50": 15.0, "p95": 40.0, "throughput": 0.9, "idle": 0.8}  # ms, ms, share of stock's, commands/s a process
ROUNDS = 5  # backlogs of each, in turn; the median counts
IDLE = 30.0  # seconds over which an idle system's commands are counted

ACTORS = """
import os, sys
sys.path.insert(0, {root!r})
import dramatiq, redis
from dramatiq import Message

stage, following = {stage!r}, {following!r}
if {ours}:
    from actors.attempt import Attempt
    from actors.broker import Broker
    from actors.heartbeat import Heartbeat
    from actors.poison import PoisonMessages
    from actors.retries import Retries
    from actors.shutdown import Shutdown
    from dramatiq.middleware import CurrentMessage
    from voicemill.config import ClientConfig
    from voicemill.store import Store
    store = Store(ClientConfig.from_environment())
    broker = Broker(store)
    retries = Retries(store, Attempt())
    for each in (Shutdown(30, broker.stopping), CurrentMessage(), PoisonMessages(store), retries, Heartbeat(3)):
        broker.add_middleware(each)
else:
    from dramatiq.brokers.redis import RedisBroker
    broker = RedisBroker(url=os.environ["REDIS_URL"], namespace="{{voicemill}}")
dramatiq.set_broker(broker)
results = redis.Redis.from_url(os.environ["REDIS_URL"])

@dramatiq.actor(queue_name=stage, actor_name=stage)
def hop(name):
    if following:
        broker.enqueue(Message(following, following, (name,), {{}}, {{}}))
    else:
        results.rpush("arrived", name)
"""


class System:
    """Three worker processes of one broker, running."""

    def __init__(self, folder, url, *, ours):
        self.client = redis.Redis.from_url(url, socket_timeout=2 * IDLE)
        self.workers = []
        for stage, following in zip(STAGES, (*STAGES[1:], None), strict=True):
            module = f"hop_{stage}_{'ours' if ours else 'stock'}"
            text = ACTORS.format(root=str(ROOT), stage=stage, following=following, ours=ours)
            (folder / f"{module}.py").write_text(text)
            command = [sys.executable, "-m", "dramatiq", module, "-p", "1", "-t", "8", "--path", str(folder)]
            environment = os.environ | {"REDIS_URL": url, "PYTHONPATH": str(folder)}
            self.workers.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
        for worker in self.workers:
            for line in worker.stderr:
                if "ready for action" in line:
                    break
        from dramatiq.brokers.redis import RedisBroker

        self.producer = RedisBroker(url=url, namespace="{voicemill}", middleware=[])

    def send(self, name):
        """Send one message into the first queue."""
        from dramatiq import Message

        self.producer.enqueue(Message("one", "one", (name,), {}, {}))

    def latencies(self, count):
        """Send one message at a time into an idle system; return the milliseconds that each took."""
        taken = []
        for number in range(count):
            time.sleep(0.05 + 0.1 * (number % 7) / 7)  # at no fixed phase of any poll
            began = time.perf_counter()
            self.send(str(number))
            assert self.client.blpop("arrived", timeout=30)
            taken.append((time.perf_counter() - began) * 1000)
        return taken

    def throughput(self, count):
        """Put a backlog there in one step, so that no sender's pace is measured; return messages a second."""
        from dramatiq import Message

        with self.client.pipeline(transaction=True) as pipe:
            for number in range(count):
                name = f"backlog-{number}"
                message = Message("one", "one", (name,), {}, {"redis_message_id": name})
                pipe.hset("{voicemill}:one.msgs", name, message.encode())
                pipe.rpush("{voicemill}:one", name)
            began = time.perf_counter()
            pipe.execute()
        while self.client.llen("arrived") < count:
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        self.client.delete("arrived")
        return count / seconds

    def idle_commands(self):
        """Return the commands a second that each worker process sends while there is nothing to do.

        The server itself reports them. A script counts as one, whatever it runs inside.
        """
        time.sleep(2)
        count = 0
        with self.client.monitor() as monitor:
            end = threading.Timer(IDLE, lambda: self.client.echo("the end"))
            end.start()
            for seen in monitor.listen():
                if seen["command"] == "ECHO the end":
                    break
                count += seen["client_type"] != "lua"
        return count / IDLE / len(self.workers)

    def stop(self):
        """End the workers."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.stderr.close()
            worker.wait(30)


@contextlib.contextmanager
def running(*, ours):
    """Run a system on a Redis of its own."""
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder) / "redis", durable=False) as url:
        system = System(Path(folder), url, ours=ours)
        try:
            yield system
        finally:
            system.stop()


def measure(messages, backlog):
    """Return the figures of ours and of stock Dramatiq; backlogs go through one and the other in turn."""
    with running(ours=True) as ours, running(ours=False) as stock:
        figures = []
        for system, count in ((ours, messages), (stock, min(messages, 40))):
            latencies = sorted(system.latencies(count))
            p95 = latencies[int(0.95 * len(latencies))]
            figures.append({"p50": statistics.median(latencies), "p95": p95, "idle": system.idle_commands()})
        rounds = [[system.throughput(backlog) for system in (ours, stock)] for _ in range(ROUNDS)]
        for figure, found in zip(figures, zip(*rounds, strict=True), strict=True):
            figure["throughput"] = statistics.median(found)
        return *figures, statistics.median(one / other for one, other in rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100, help="one at a time, for the latency (100)")
    parser.add_argument("--backlog", type=int, default=3000, help="at once, for the throughput (3000)")
    arguments = parser.parse_args()
    ours, stock, share = measure(arguments.messages, arguments.backlog)

    print(f"{'':<36}{'Voicemill':>12}{'Dramatiq':>12}")
    for name, label in (
        ("p50", "three idle hops, p50 (ms)"),
        ("p95", "three idle hops, p95 (ms)"),
        ("throughput", "backlog (messages/s)"),
        ("idle", "idle commands/s a process"),
    ):
        print(f"{label:<36}{ours[name]:>12.2f}{stock[name]:>12.2f}")
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "hops.json").write_text(json.dumps({"voicemill": ours, "dramatiq": stock}, indent=2) + "\n")
    missed = [name for name in ("p50", "p95", "idle") if ours[name] > FLOORS[name]]
    missed += ["throughput"] if share < FLOORS["throughput"] else []
    print(f"{'MISS: ' + ', '.join(missed) if missed else 'PASS'}: throughput {share:.2f} times Dramatiq's")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
