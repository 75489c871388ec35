"""What the HTTP API costs under load: 200 clients at a time send messages and wait for their transcripts.

    python bench/web_load.py [--seconds 120] [--clients 200] [--job 4]

The server is `voicemill web` with a Valkey of its own; in place of the stages tests/stub_engine.py finishes each job
after `--job` seconds. Eight keys share the well-behaved clients. Eight greedy clients with a ninth key exceed
API_REQUESTS_PER_MINUTE and must be answered by 429, which nobody else may be. The server's own time is what it reports
in `Server-Timing`: the time in the application without receiving the body and waiting for the job. Writes
bench/results/web.json; the exit code is 1 if a limit is exceeded.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cli.embedded import valkey  # noqa: E402 - the repository is not installed
from web import auth  # noqa: E402

P99 = 50.0  # ms of the server's own time
GROWTH = 1.1  # of the server's memory from a quarter of the time to its end, and
SLACK = 8  # MiB on top
LIMIT = 900  # requests per minute of a key
GREEDY = 8  # clients that send more often than that
PAUSE = 0.2  # seconds between their requests
BOUNDARY = "voicemill-load"


def body(data):
    fields = {"model": "whisper-1", "response_format": "json", "language": "en"}
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{fields[name]}\r\n' for name in fields
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.ogg"\r\n\r\n'
    return "".join(parts).encode() + head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


class Load:
    """What the clients saw."""

    def __init__(self, port, seconds, job):
        self.port, self.job = port, job
        self.until = time.monotonic() + seconds
        self.own, self.overhead = [], []  # ms of each well-behaved request
        self.answers = {"polite": Counter(), "greedy": Counter()}

    async def client(self, kind, request, delay):
        """Send one request after another until the time is over."""
        await asyncio.sleep(delay)
        reader = writer = None
        while time.monotonic() < self.until:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                began = time.monotonic()
                writer.write(request)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(re.search(r"content-length: (\d+)", head)[1]))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.answers[kind][type(error).__name__] += 1
                writer = None
                continue
            status = head.split()[1]
            self.answers[kind][status] += 1
            if kind == "polite" and status == "200":
                self.own.append(float(re.search(r"own;dur=([\d.]+)", head)[1]))
                self.overhead.append((time.monotonic() - began - self.job) * 1000)
            if kind == "greedy":
                await asyncio.sleep(PAUSE)
        if writer is not None:
            writer.close()


def ticks():
    """Return the time that the cores have had so far, and how much of it the host took for others (ticks)."""
    times = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(times), times[7]


def resident(pid):
    """Return a process's resident memory (MiB)."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


async def run(arguments, pid, port, secrets):
    load = Load(port, arguments.seconds, arguments.job)
    data = body((ROOT / "samples" / "voice-message.ogg").read_bytes())
    head = "Host: 127.0.0.1\r\nAuthorization: Bearer {}\r\n"
    clients = []
    for number in range(arguments.clients):
        lines = f"POST /v1/audio/transcriptions HTTP/1.1\r\n{head.format(secrets[number % 8])}"
        lines += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(data)}\r\n\r\n"
        delay = number / arguments.clients * arguments.job  # they arrive one by one, as clients do
        clients.append(load.client("polite", lines.encode() + data, delay))
    greedy = f"GET /v1/models HTTP/1.1\r\n{head.format(secrets[8])}\r\n".encode()
    clients += [load.client("greedy", greedy, 0) for _ in range(GREEDY)]
    memory = []

    async def watch():
        while True:
            memory.append(resident(pid))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*clients)
    watching.cancel()
    return load, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--job", type=float, default=4, help="seconds that a job takes")
    arguments = parser.parse_args()
    made = [auth.generate(f"client-{number}") for number in range(9)]
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), durable=False) as url:
        variables = os.environ | {
            "REDIS_URL": url,
            "API_KEYS": " ".join(entry for _, entry in made),
            "API_REQUESTS_PER_MINUTE": str(LIMIT),
            "LOG_FORMAT": "json",
        }
        stub = subprocess.Popen([sys.executable, ROOT / "tests" / "stub_engine.py", str(arguments.job)], env=variables)
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "web", "--port", "0"],
            cwd=ROOT,
            env=variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            port = next(int(found[1]) for line in server.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            with Path(folder, "server.log").open("w") as sink:
                copying = subprocess.Popen(["cat"], stdin=server.stderr, stdout=sink)  # its log, off the pipe
                before = ticks()
                load, memory = asyncio.run(run(arguments, server.pid, port, [key for key, _ in made]))
                spent, stolen = (now - then for now, then in zip(ticks(), before, strict=True))
                server.send_signal(signal.SIGTERM)
                code = server.wait(60)
                copying.wait(10)
            log = Path(folder, "server.log").read_text()
            sys.stderr.writelines(
                line for line in log.splitlines(keepends=True)[:2000] if '"event": "Request handled"' not in line
            )
        finally:
            for process in (server, stub):
                process.kill()
                process.wait()
    sys.exit(verdict(arguments, load, memory, code, stolen / spent))


def verdict(arguments, load, memory, code, stolen):
    cuts = statistics.quantiles(load.own, n=100)
    result = {
        "seconds": arguments.seconds,
        "clients": arguments.clients,
        "job_seconds": arguments.job,
        "transcripts": len(load.own),
        "answers": {kind: dict(counts) for kind, counts in load.answers.items()},
        "own_ms": {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1), "p99": round(cuts[98], 1)},
        "overhead_ms_p50": round(statistics.median(load.overhead), 1),
        "memory_mib": [round(memory[len(memory) * part // 8], 1) for part in range(8)] + [round(memory[-1], 1)],
        "stolen": round(stolen, 3),
        "exit_code": code,
    }
    misses = []
    if set(load.answers["polite"]) - {"200"}:
        misses.append("a well-behaved client did not get its transcript")
    if set(load.answers["greedy"]) - {"200", "429"} or (arguments.seconds >= 60 and not load.answers["greedy"]["429"]):
        misses.append("a greedy client was not answered by 429, or by something else")
    if cuts[98] > P99:
        misses.append(f"p99 of the server's own time is {cuts[98]:.1f} ms, over {P99:g}")
    if memory[-1] > memory[len(memory) // 4] * GROWTH + SLACK:
        misses.append("its memory grew")
    if code:
        misses.append(f"it ended with exit code {code}")
    result["misses"] = misses
    (ROOT / "bench" / "results" / "web.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    print("MISSED: " + "; ".join(misses) if misses else "all limits kept")
    return 1 if misses else 0


if __name__ == "__main__":
    main()
