"""The metrics drill: Debian's Prometheus watches the stages while they work, and while things break.

    python bench/metrics.py

Runs `up` with METRICS_PORT, sends real messages, and has a real Prometheus scrape all workers with the configuration
and the alerts of deploy/prometheus; asks it for everything that the dashboard draws. Then a model process is killed and
another frozen, Redis is frozen, a worker is frozen. Wants Debian's package prometheus. Writes
bench/results/metrics.json; the exit code is 1 where something was not seen.
"""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from gemini_server import KEY, GeminiServer  # noqa: E402 - the repository is not installed
from processes import becomes, children, command, models  # noqa: E402

from cli.embedded import valkey  # noqa: E402
from voicemill import Client  # noqa: E402

STAGES = ("decode", "transcribe", "enrich", "webhook")
DEPLOY = ROOT / "deploy"
VOICE = ROOT / "samples" / "voice-message.ogg"
MESSAGES = 24
INTERVAL = 2  # seconds between scrapes
TIMEOUT = 5  # seconds: TRANSCRIBE_TIMEOUT, so that a frozen model process is noticed soon
SLOWEST = 0.5  # seconds that a scrape may take
NO_DATA = re.compile("voicemill_gpu_")  # what a machine without a GPU does not show

failures, figures = [], {}


def check(what, fine, evidence=""):
    """Print what was checked, and remember where it failed."""
    print(f"  {'ok  ' if fine else 'FAIL'} {what}{f' ({evidence})' if evidence != '' else ''}", flush=True)
    if not fine:
        failures.append(what)


def get(url):
    """Return status and body of a page; 0 where nobody answers within 5 s."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, b""


def free_ports():
    """Return the first of a row of free ports: for two processes of each kind."""
    while True:
        with ExitStack() as open_ones:
            try:
                first = open_ones.enter_context(closing(socket.create_server(("127.0.0.1", 0)))).getsockname()[1]
                for port in range(first + 1, first + 2 * len(STAGES)):
                    open_ones.enter_context(closing(socket.create_server(("127.0.0.1", port))))
            except (OSError, OverflowError):
                continue
            return first


class World:
    """The workers' ports, and the Prometheus that watches them."""

    def __init__(self, first):
        self.ports = {stage: first + place for place, stage in enumerate(STAGES)}
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.prometheus = probe.getsockname()[1]

    def ask(self, query):
        """Return what Prometheus answers to a query: labels and value each."""
        place = f"http://127.0.0.1:{self.prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        status, body = get(place)
        if status != 200:
            return None
        result = json.loads(body)["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def value(self, query):
        """Return the one value of a query, or None."""
        found = self.ask(query)
        return found[0][1] if found else None

    def ready(self, stage):
        """Return the status of /readyz, and the conditions that fail."""
        status, body = get(f"http://127.0.0.1:{self.ports[stage]}/readyz")
        conditions = json.loads(body)["conditions"] if body else {}
        return status, {name: reason for name, reason in conditions.items() if reason != "ok"}


@contextmanager
def running(words, log, **variables):
    """Run a program in a session of its own, and end it."""
    with log.open("w") as output:
        process = subprocess.Popen(
            words, cwd=ROOT, env=os.environ | variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def promtool(*words, **options):
    """Run promtool and return it."""
    return subprocess.run(["promtool", *words], capture_output=True, text=True, **options)


def recipes():
    """What lies in deploy/prometheus is in order."""
    for words in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ):
        ran = promtool(*words, cwd=DEPLOY / "prometheus")
        check(f"promtool {' '.join(words)}", ran.returncode == 0, ran.stdout[-300:] if ran.returncode else "")


def configuration(world, folder):
    """Copy deploy/prometheus with the drill's ports and a short interval."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text().replace(": 15s", f": {INTERVAL}s")
    for place, port in enumerate(world.ports.values()):
        text = text.replace(f":{9464 + place}", f":{port}")
    (folder / "prometheus.yml").write_text(text)
    (folder / "alerts.yml").write_text((DEPLOY / "prometheus" / "alerts.yml").read_text())


def exposed(world):
    """Each worker shows metrics that promtool finds no fault with, and quickly."""
    for stage, port in world.ports.items():
        began = time.monotonic()
        status, body = get(f"http://127.0.0.1:{port}/metrics")
        took = time.monotonic() - began
        ran = promtool("check", "metrics", input=body.decode())
        check(f"promtool check metrics: {stage}", (status, ran.returncode, ran.stderr) == (200, 0, ""), ran.stderr)
        figures[f"{stage}_scrape_ms"] = round(1000 * took, 1)


def send(client):
    """Send the sample, and return its job."""
    voice = "data:audio/ogg;base64," + base64.b64encode(VOICE.read_bytes()).decode()
    return client.send(voice, language="en").id


def work(world, client):
    """Messages go through, one in six fails, and Prometheus can tell."""
    voice = "data:audio/ogg;base64," + base64.b64encode(VOICE.read_bytes()).decode()
    sent = [client.send(voice if n % 6 else "/etc/hostname", language="en").id for n in range(MESSAGES)]
    ended = [client.wait(one, timeout=300).status for one in sent]
    bad = MESSAGES // 6
    check("messages ended", ended.count("done") == MESSAGES - bad and ended.count("failed") == bad, len(ended))
    expected = {"done": MESSAGES - bad, "failed": bad}
    check(
        "Prometheus has counted them by state",
        becomes(
            lambda: (
                {m["status"]: v for m, v in world.ask("max by (status) (voicemill_jobs_ended_total) > 0")} == expected
            ),
            30,
        ),
    )
    check(
        "and the failures by stage and code",
        world.ask("max by (stage, code) (voicemill_job_failures_total)")
        == [({"stage": "decode", "code": "source_forbidden"}, bad)],
    )
    for stage in STAGES[:3]:
        median = world.value(
            f'histogram_quantile(0.5, sum by (le) (voicemill_stage_work_seconds_bucket{{stage="{stage}"}}))'
        )
        check(f"median work of {stage}", median is not None and median > 0, f"{median:.3g} s")
        figures[f"{stage}_work_p50"] = round(median, 3)
    factor = world.value("histogram_quantile(0.5, sum by (le) (voicemill_real_time_factor_bucket))")
    check("median real-time factor", factor is not None and 0 < factor < 1, f"{factor:.3g}")
    check("Gemini's tokens", world.value('max(voicemill_gemini_tokens_total{direction="output"})') > 0)
    figures["real_time_factor_p50"] = factor


def dashboard(world):
    """Prometheus understands everything that the dashboard asks, and has an answer."""
    panels = json.loads((DEPLOY / "grafana" / "voicemill.json").read_text())["panels"]
    asked = [
        target["expr"].replace("$__rate_interval", "30s") for panel in panels for target in panel.get("targets", ())
    ]
    answers = {expression: world.ask(expression) for expression in asked}
    check("the dashboard's expressions are understood", None not in answers.values(), len(asked))
    empty = [expression for expression, answer in answers.items() if not answer and not NO_DATA.search(expression)]
    check("and each has an answer", not empty, "; ".join(empty))


def model_killed(world, client, master):
    """A killed model process is replaced, is counted, and the worker says meanwhile that it is not ready."""
    [pid] = models(master)
    os.kill(pid, signal.SIGKILL)
    job = send(client)  # by which the death is noticed
    check("503 while the model is loaded anew", becomes(lambda: "canary" in world.ready("transcribe")[1], 30))
    check("200 again", becomes(lambda: world.ready("transcribe")[0] == 200, 60))
    check("the message that met the dead process is done", client.wait(job, timeout=120).status == "done")
    counted = 'sum(voicemill_slot_restarts_total{reason="died_idle"})'
    check("the restart is counted", becomes(lambda: world.value(counted) == 1, 30))


def model_frozen(world, master):
    """A frozen model process is noticed by its canary, replaced and counted."""
    [pid] = models(master)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    check(
        "503 once the frozen process has not proved itself",
        becomes(lambda: "canary" in world.ready("transcribe")[1], 150),
    )
    figures["frozen_model_noticed"] = round(time.monotonic() - began, 1)
    check(
        "200 again",
        becomes(lambda: world.ready("transcribe")[0] == 200, 60),
        f"after {figures['frozen_model_noticed']} s",
    )
    counted = 'sum(voicemill_slot_restarts_total{reason="canary"})'
    check("the restart is counted", becomes(lambda: world.value(counted) == 1, 30))


def redis_frozen(world, pid):
    """While Redis is silent nobody is ready, everybody lives, and Prometheus hears it from each."""
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        for stage in STAGES:
            check(f"503 of {stage}", becomes(lambda stage=stage: "redis" in world.ready(stage)[1], 10))
        check("all healthy", all(get(f"http://127.0.0.1:{port}/healthz")[0] == 200 for port in world.ports.values()))
        seen = becomes(lambda: world.value('count(voicemill_ready{condition="redis"} == 0)') == len(STAGES), 30)
        check("Prometheus knows", seen)
        check("the alert is on its way", becomes(lambda: pending(world, "VoicemillRedisUnreachable"), 30))
    finally:
        os.kill(pid, signal.SIGCONT)
    figures["redis_frozen"] = round(time.monotonic() - began, 1)
    began = time.monotonic()
    for stage in STAGES:
        check(f"200 of {stage}", becomes(lambda stage=stage: world.ready(stage)[0] == 200, 60))
    figures["ready_after_redis"] = round(time.monotonic() - began, 1)


def pending(world, alert):
    """Whether an alert is pending or fires."""
    return bool(world.ask(f'ALERTS{{alertname="{alert}"}}'))


def worker_frozen(world, client, up):
    """A frozen worker does not answer, which Prometheus sees; the others tell that nobody works on its stage."""
    [master] = [pid for pid in children(up) if "actors.enrich" in command(pid) and "spawn" not in command(pid)][:1]
    frozen = [master, *children(master)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    send(client)  # with nothing to enrich nobody would be missed
    try:
        down = f'up{{instance="127.0.0.1:{world.ports["enrich"]}"}}'
        check("a frozen worker is down", becomes(lambda: world.value(down) == 0, 60))
        check(
            "the others say that its stage is unattended",
            becomes(lambda: world.value('max(voicemill_workers{stage="enrich"})') == 0, 60),
        )
        check(
            "the alerts are on their way",
            becomes(lambda: pending(world, "VoicemillStageUnattended") and pending(world, "VoicemillWorkerDown"), 30),
        )
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    check("up again, and ready", becomes(lambda: world.value(down) == 1 and world.ready("enrich")[0] == 200, 60))


def second_process(world, url, folder):
    """A second decode worker on the machine takes the port four higher."""
    words = [Path(sys.executable).with_name("dramatiq"), "actors.decode", "-p", "1", "-t", "2", "--skip-logging"]
    with running(words, folder / "second.log", REDIS_URL=url, METRICS_PORT=str(world.ports["decode"])):
        place = f"http://127.0.0.1:{world.ports['decode'] + len(STAGES)}/readyz"
        check("a second decode worker is four ports higher", becomes(lambda: get(place)[0] == 200, 60))


def drill(folder):
    """Run everything."""
    world = World(free_ports())
    with ExitStack() as at_work:
        url = at_work.enter_context(valkey(folder / "redis", durable=False))
        os.environ["REDIS_URL"] = url
        client = at_work.enter_context(Client())
        server = client.store.redis.info("server")["process_id"]
        gemini = at_work.enter_context(GeminiServer())
        variables = {
            "METRICS_PORT": str(world.ports["decode"]),
            "WHISPER_CPU_REPLICAS": "1",
            "WHISPER_DEVICE": "cpu",
            "TRANSCRIBE_TIMEOUT": str(TIMEOUT),
            "GEMINI_API_KEY": KEY,
            "GEMINI_ENDPOINT": gemini.url,
            "LOG_FORMAT": "json",
        }
        up = at_work.enter_context(running([sys.executable, "-m", "pipeline", "up"], folder / "up.log", **variables))
        for stage in STAGES:
            check(f"{stage} is ready", becomes(lambda stage=stage: world.ready(stage)[0] == 200, 120))
        exposed(world)
        configuration(world, folder)
        words = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        words += [f"--web.listen-address=127.0.0.1:{world.prometheus}", "--log.level=warn"]
        at_work.enter_context(running(words, folder / "prometheus.log"))
        check(
            "Prometheus scrapes all four", becomes(lambda: world.value('sum(up{job="voicemill"})') == len(STAGES), 60)
        )
        work(world, client)
        dashboard(world)
        second_process(world, url, folder)
        [master] = [pid for pid in children(up.pid) if models(pid) and "actors.transcribe" in command(pid)][:1]
        model_killed(world, client, master)
        redis_frozen(world, server)
        worker_frozen(world, client, up.pid)
        model_frozen(world, master)
        slowest = world.value("max(max_over_time(scrape_duration_seconds[1m]))")
        check("scrapes are quick", slowest < SLOWEST, f"the slowest of the last minute {1000 * slowest:.0f} ms")
        size = world.value("max(scrape_samples_scraped)")
        figures.update(slowest_scrape_ms=round(1000 * slowest, 1), series_of_the_largest=size)
    if failures:
        print((folder / "up.log").read_text()[-4000:])


if __name__ == "__main__":
    recipes()
    with tempfile.TemporaryDirectory() as place:
        drill(Path(place))
    results = ROOT / "bench" / "results" / "metrics.json"
    results.write_text(json.dumps(figures | {"failures": failures}, indent=1) + "\n")
    print(f"METRICS {'FAILED: ' + '; '.join(failures) if failures else 'passed'}: {figures}")
    sys.exit(bool(failures))
