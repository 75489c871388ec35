"""When deploy/autoscale/autoscale.py wants more workers, and when fewer."""

import importlib.util
import sys

import pytest

from config.environment import ROOT


@pytest.fixture(scope="module")
def autoscale():
    spec = importlib.util.spec_from_file_location("autoscale", ROOT / "deploy" / "autoscale" / "autoscale.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["autoscale"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


# One look a second: how long the oldest message waits (None: none does), and how many workers there are to be after it.
BACKLOG = [(5, 1), (11, 1), (12, 2), (30, 2), (31, 2), (32, 3), (40, 3), (41, 3), (42, 3), (43, 3)]
CASES = {
    "a backlog adds one worker at a time, with a pause, and no more than the most": (1, BACKLOG),
    "one slow message adds none": (1, [(11, 1), (None, 1), (11, 1), (2, 1), (11, 1)]),
    "idleness takes one away at a time": (3, [(None, 3)] * 5 + [(None, 2)] * 6 + [(None, 1)] * 9),
    "a message that waits begins idleness anew": (2, [(None, 2)] * 4 + [(1, 2)] + [(None, 2)] * 5 + [(None, 1)]),
    "too few are made good at once": (0, [(None, 1), (None, 1)]),
}


@pytest.mark.parametrize("name", CASES)
def test_how_many_workers_there_are_to_be(autoscale, name):
    policy = autoscale.Policy(least=1, most=3, slow=10, checks=2, calm=5, settle=3)
    count, looks = CASES[name]
    situation, counts = autoscale.Situation(count), []

    for now, (oldest, _) in enumerate(looks):
        situation = autoscale.decide(policy, situation, oldest, 0, float(now))
        counts.append(situation.count)

    assert counts == [wanted for _, wanted in looks]


def test_the_last_worker_is_not_taken_from_its_work(autoscale):
    policy = autoscale.Policy(least=0, most=1, calm=5, settle=0)
    situation = autoscale.Situation(1)

    for now in range(20):
        situation = autoscale.decide(policy, situation, None, 1, float(now))
    assert situation.count == 1

    for now in range(20, 26):
        situation = autoscale.decide(policy, situation, None, 0, float(now))
    assert situation.count == 0
