"""The deploy drill: the recipes of deploy/ and the Procfile, run on this machine.

    python bench/deploy.py [systemd] [supervisor] [honcho] [autoscale]     all, without a name

Wants systemd-analyze, supervisord, redis-server and openssl. Exits with 1 where a recipe does not do what it says.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import redis  # noqa: E402 - the repository is not installed
from processes import alive, becomes, children, command, end  # noqa: E402
from tls_redis import tls_redis  # noqa: E402

from cli.embedded import valkey  # noqa: E402
from config.environment import parse_dotenv  # noqa: E402
from voicemill import Client  # noqa: E402
from voicemill.lifecycle import QUEUES  # noqa: E402

PLACE = "/opt/voicemill"  # where the recipes have the clone
HERE = Path(sys.executable).parent
VOICE = ROOT / "samples" / "voice-message.ogg"
MODEL = {"WHISPER_MODEL": "bundled:tiny.en", "WHISPER_DEVICE": "cpu", "WHISPER_CPU_REPLICAS": "1"}
ALONE = {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "", "LOG_FORMAT": "json"}
START = 90.0  # seconds that the stages may take to be there
WORK = 120.0  # seconds that a message may take
STOP = 60.0  # seconds that the stages may take to end
EXPOSED = 3.0  # of 10: systemd-analyze's verdict on what a unit could do

failures = []


def check(what, fine, evidence=""):
    """Print what was checked, and remember where it failed."""
    print(f"  {'ok  ' if fine else 'FAIL'} {what}{f': {evidence}' if evidence and not fine else ''}", flush=True)
    if not fine:
        failures.append(what)


def everybody(client):
    """Whether somebody consumes each queue."""
    return {stage for worker in client.store.workers.alive() for stage in worker.stages} >= set(QUEUES)


def family(pid):
    """A process and all that came of it."""
    return [pid, *children(pid)]


def submit(variables):
    """Send the sample and wait for its text."""
    words = ("submit", "--upload", str(VOICE), "--language", "en", "--wait")
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WORK,
    )


def heard(ran):
    """Whether a message went through all stages and came back as text."""
    return ran.returncode == 0 and "meeting" in ran.stdout


def refused(ask):
    """Whether Redis says that the user may not do this."""
    try:
        ask()
    except redis.exceptions.NoPermissionError:
        return True
    return False


@contextlib.contextmanager
def reaching(variables):
    """This process reaches the same Redis as the stages: yield their environment, and a client."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with Client() as client:
            yield os.environ | {"PYTHONUNBUFFERED": "1"}, client
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def running(words, folder, variables):
    """Run a program, and see that it is gone at the end, whatever went wrong."""
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            words, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        left = family(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP)
        if not end(left, 15):
            print((folder / "log").read_text()[-4000:])
            for pid in alive(left):
                os.kill(pid, 9)


def relocated(folder, target):
    """Copy recipes to where this clone's own paths stand in them."""
    shutil.copytree(folder, target, dirs_exist_ok=True)
    for file in target.rglob("*"):
        if file.is_file():
            file.write_text(file.read_text().replace(f"{PLACE}/.venv/bin", str(HERE)).replace(PLACE, str(ROOT)))


def systemd(folder):
    """Every unit is what systemd understands, without a word of complaint."""
    relocated(ROOT / "deploy" / "systemd", folder)
    variables = os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:", "SYSTEMD_COLORS": "0"}
    for file in sorted(folder.glob("voicemill*.*")):
        if not file.is_file():
            continue
        unit = file.with_name(file.name.replace("@.", "@1."))
        ran = subprocess.run(
            ["systemd-analyze", "verify", unit], env=variables, capture_output=True, text=True, timeout=60
        )
        check(f"systemd-analyze verify {unit.name}", (ran.returncode, ran.stdout + ran.stderr) == (0, ""), ran.stderr)
        if unit.suffix == ".service":
            words = ["systemd-analyze", "security", "--offline=true", unit]
            said = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=60).stdout
            (level,) = [line.split()[-3] for line in said.splitlines() if "Overall exposure" in line]
            check(f"{unit.name} is exposed to {level} of 10", float(level) <= EXPOSED)


SUPERVISORD = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
[unix_http_server]
file={folder}/socket
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/socket
[include]
files={folder}/recipe/*.conf
"""


def supervisor(folder):
    """All stages under supervisord, on a Redis behind TLS that lets its user do no more than the recipe says."""
    relocated(ROOT / "deploy" / "supervisor", folder / "recipe")
    recipe = folder / "recipe" / "voicemill.conf"
    recipe.write_text(recipe.read_text().replace("user=voicemill\n", ""))  # we are not root
    (folder / "supervisord.conf").write_text(SUPERVISORD.format(folder=folder))
    example = parse_dotenv((ROOT / "deploy" / "environment").read_text())
    rights = ("on", f">{example['REDIS_PASSWORD']}", "~{voicemill}*", "+@all", "-@dangerous", "+info")
    account = ("--user", example["REDIS_USERNAME"], *rights)
    with tls_redis(folder, "not the user's", account) as server:
        theirs = {name: value for name, value in server.items() if name != "REDIS_PASSWORD"}
        with reaching(example | theirs | MODEL | ALONE) as (variables, client):
            _supervised(folder, variables, client)


def _supervised(folder, variables, client):
    words = ["supervisord", "-c", str(folder / "supervisord.conf")]

    def ctl(*more):
        ctl = ["supervisorctl", "-c", str(folder / "supervisord.conf"), *more]
        return subprocess.run(ctl, capture_output=True, text=True, timeout=STOP + 60).stdout

    def pid_of(name):
        return int(ctl("pid", f"voicemill:{name}-1"))

    with running(words, folder, variables) as daemon:
        check("supervisord starts every stage over TLS", becomes(lambda: everybody(client), START), ctl("status"))
        check("their user may do nothing dangerous", refused(lambda: client.store.redis.config_get("maxmemory")))
        ran = submit(variables)
        check("a voice message comes back as text", heard(ran), ran.stderr)
        master = pid_of("decode")
        workers = family(master)
        os.kill(master, 9)
        check("a worker whose master is killed ends", end(workers, STOP))
        back = becomes(lambda: ctl("status", "voicemill:decode-1").split()[1] == "RUNNING", START)
        check("the killed stage is back", back and pid_of("decode") != master, ctl("status"))
        check("and works", heard(submit(variables)))
        sent = send(client, 20, {"language": "en"})
        check("work is under way", becomes(lambda: client.status().stages["decode"].depth.in_progress > 0, START))
        everything = family(daemon.pid)
        began = time.monotonic()
        daemon.terminate()
        daemon.wait(STOP)
        took = time.monotonic() - began
        check(f"a stop amid work takes {took:.1f} s, less than stopwaitsecs", took < 45)
        check("no process is left", end(everything, 5), str([command(pid) for pid in alive(everything)]))
        left = client.store.workers.alive()
        check("no worker is missed by Redis", left == [], str(left))
    with running(words, folder, variables):
        done = [client.wait(job, WORK).status for job in sent]
        check("started again, it ends all that was sent", set(done) == {"done"}, str(done))


def send(client, count, options):
    """Send the sample as often as asked, and return the jobs."""
    source = client.upload(VOICE)
    return [client.send(source, **options).id for _ in range(count)]


def honcho(folder):
    """The Procfile under honcho."""
    own = MODEL | ALONE
    with (
        valkey(folder / "valkey", durable=False) as url,
        reaching({"REDIS_URL": url} | own) as (variables, client),
    ):
        words = [str(HERE / "honcho"), "-e", str(folder / "none"), "start", "-f", str(ROOT / "Procfile")]
        path = os.pathsep.join((str(HERE), variables.get("PATH", os.defpath)))
        with running(words, folder, variables | {"PATH": path}) as process:
            check("honcho starts every line of the Procfile", becomes(lambda: everybody(client), START))
            ran = submit(variables)
            check("a voice message comes back as text", heard(ran), ran.stderr)
            everything = family(process.pid)
            process.terminate()
            process.wait(STOP)
            check("no process is left", end(everything, 10), str([command(pid) for pid in alive(everything)]))


def autoscale(folder):
    """A backlog starts a second decode worker, idleness ends it, and no message pays for either."""
    long = folder / "long.ogg"
    loop = ["ffmpeg", "-v", "error", "-stream_loop", "60", "-i", VOICE, "-c", "copy", long]
    subprocess.run(loop, check=True, stdin=subprocess.DEVNULL)
    own = {"MEDIA_ROOT": str(folder)} | ALONE
    with (
        valkey(folder / "valkey", durable=False) as url,
        reaching({"REDIS_URL": url} | own) as (variables, client),
    ):
        _scaled(folder, variables, client)


def _scaled(folder, variables, client):
    script = [sys.executable, str(ROOT / "deploy" / "autoscale" / "autoscale.py"), "--stage", "decode"]
    numbers = ["--most", "2", "--slow", "2", "--calm", "6", "--settle", "4", "--every", "1"]
    workers, get = client.store.workers.alive, client.get
    with running([*script, *numbers], folder, variables) as process:
        check("it starts the first worker", becomes(lambda: len(workers()) == 1, START))
        (first,) = workers()
        sent = [client.send("long.ogg").id for _ in range(60)]
        check("a backlog starts a second one", becomes(lambda: len(workers()) == 2, START))
        check("not a third", not becomes(lambda: len(workers()) > 2, 8))
        done = becomes(lambda: all(get(job).stages["decode"].finished_at for job in sent), WORK * 3)
        check("all is decoded", done)
        check("idleness ends it", becomes(lambda: len(workers()) == 1, STOP))
        check("and not the first", [worker.pid for worker in workers()] == [first.pid])
        both = {get(job).stages["decode"].worker for job in sent}
        tries = {get(job).stages["decode"].attempts for job in sent}
        check("both worked, and nothing was begun twice", len(both) == 2 and tries == {1}, f"{both} {tries}")
        everything = family(process.pid)
        process.terminate()
        check("told to stop, it ends with exit code 0", process.wait(STOP) == 0)
        check("no process is left", end(everything, 10), str([command(pid) for pid in alive(everything)]))
    for line in (folder / "log").read_text().splitlines():
        if line.startswith("autoscale |"):
            print(f"       {line}")


DRILLS = {"systemd": systemd, "supervisor": supervisor, "honcho": honcho, "autoscale": autoscale}


def main():
    chosen = sys.argv[1:] or list(DRILLS)
    for name in chosen:
        print(f"{name}: {DRILLS[name].__doc__}")
        with tempfile.TemporaryDirectory(prefix="voicemill-deploy-") as folder:
            DRILLS[name](Path(folder))
    verdict = f"{len(failures)} of the checks failed: {'; '.join(failures)}" if failures else "every recipe works"
    print(f"Deploy drill ({', '.join(chosen)}): {verdict}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
