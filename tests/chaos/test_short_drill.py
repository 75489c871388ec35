"""The drill in short: `make chaos` runs it at length."""

import itertools
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from tests.chaos.__main__ import Faults


def test_no_job_is_lost_doubled_or_left_behind_whatever_dies():
    command = [sys.executable, "-m", "tests.chaos", "--jobs", "24", "--seed", "1", "--faults", "5", "--stopped", "6"]

    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "PASS: 24 jobs done" in ran.stdout
    assert "faults: 1 cut, 1 kill, 1 redis, 1 stop, 1 term" in ran.stdout


def test_a_seed_makes_the_same_faults_in_the_same_order_whoever_there_is_to_hit():
    victims = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    pids = {f"stage.{n}": process.pid for n, process in enumerate(victims)}
    alone = itertools.repeat({"stage.0": pids["stage.0"]})
    many = itertools.cycle([pids, {}, pids])  # now and then there is nobody
    proxy = SimpleNamespace(cut=list)
    orders = []
    try:
        for there in (alone, many):
            stages = SimpleNamespace(pids=partial(next, there))
            faults = Faults(1, ("kill", "term", "stop", "cut"), stages, None, proxy, 0.0, 60.0, 40)
            faults.start()
            faults.join()
            faults.end()
            orders.append(faults.done)
    finally:
        for process in victims:
            process.kill()
            process.wait()

    assert orders[0] == orders[1]
