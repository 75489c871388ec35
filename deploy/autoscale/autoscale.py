r"""Keeps as many workers of a stage as its queue needs: one more while messages wait too long, one less when none wait.

    .venv/bin/python deploy/autoscale/autoscale.py --stage decode --most 4
    .venv/bin/python deploy/autoscale/autoscale.py --stage transcribe --most 3 \
        --start 'systemctl start voicemill-transcribe@{n}' --stop 'systemctl stop voicemill-transcribe@{n}'

It looks at `python -m pipeline status --json` every few seconds. Without --start it runs the Procfile's command itself,
as often as needed, on this machine, and stops them all when it is told to stop. With --start and --stop it gives these
commands, `{n}` being 1, 2, 3 ...: units, machines, whatever they like; what they start outlives it, and is counted
by `status` when it comes back. The last number is the first to stop. A worker that is told to stop ends what it has
begun, so nothing is lost by having too few for a while or too many.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from voicemill.lifecycle import STAGES

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cli.signals import stops  # noqa: E402
from cli.supervisor import Supervisor, procfile  # noqa: E402
from config import environment, settings  # noqa: E402 - the repository is not installed

STATUS_TIMEOUT = 30.0  # seconds

Told = SimpleQueue[int]  # the signals that said stop


@dataclass(frozen=True, slots=True)
class Policy:
    """When there are to be more workers, and when fewer."""

    least: int = 1
    most: int = 2
    slow: float = 10.0  # seconds that the oldest message may wait
    looks: int = 2  # how often in a row it has to have waited longer, lest one slow message makes a worker
    calm: float = 120.0  # seconds without a waiting message after which one worker is too many
    settle: float = 30.0  # seconds after a change in which none follows: a worker takes some to load its model


@dataclass(frozen=True, slots=True)
class Situation:
    """How many workers there are to be, and what was seen lately."""

    count: int
    slow_looks: int = 0
    quiet_since: float | None = None  # monotonic seconds
    changed_at: float | None = None


def decide(policy: Policy, before: Situation, oldest: float | None, working: int, now: float) -> Situation:
    """Return the situation after another look.

    Args:
        policy: when to change the count.
        before: the situation so far.
        oldest: how long the oldest message has waited (seconds); None: none waits.
        working: how many messages are in hand, or wait for another try in a worker's; the last worker is left to them.
        now: monotonic seconds.
    """
    quiet = oldest is None and (before.count > 1 or not working)
    seen = replace(
        before,
        slow_looks=before.slow_looks + 1 if oldest is not None and oldest > policy.slow else 0,
        quiet_since=None if not quiet else now if before.quiet_since is None else before.quiet_since,
    )
    if seen.count < policy.least:
        return Situation(seen.count + 1, changed_at=now)
    if seen.changed_at is not None and now - seen.changed_at < policy.settle:
        return seen
    if seen.slow_looks >= policy.looks and seen.count < policy.most:
        return Situation(seen.count + 1, changed_at=now)
    calm = seen.quiet_since is not None and now - seen.quiet_since >= policy.calm
    if calm and seen.count > policy.least:
        return Situation(seen.count - 1, changed_at=now)
    return seen


class Workers(Protocol):
    """Where workers come from; each of these tells whether it worked."""

    def start(self, number: int) -> bool:
        """Start the worker of this number."""

    def stop(self, number: int) -> bool:
        """Have it end what it has begun, and then end."""

    def close(self) -> None:
        """Do what is to be done at the end."""


class Here:
    """Workers as children of this process, started again where they end by themselves."""

    def __init__(self, stage: str) -> None:
        self._stage, self._command = stage, procfile()[stage]
        self._timeout = settings.get().shutdown_timeout
        self._running: dict[int, Supervisor] = {}

    def start(self, number: int) -> bool:
        """Start the worker of this number."""
        name = f"{self._stage}-{number}"
        keeper = Supervisor({name: self._command}, environment.values(), show, self._timeout)
        keeper.start()
        self._running[number] = keeper
        return True

    def stop(self, number: int) -> bool:
        """Stop the worker of this number; it is waited for."""
        self._running.pop(number).stop()
        return True

    def close(self) -> None:
        """Stop them all, side by side."""
        threads = [threading.Thread(target=keeper.stop) for keeper in self._running.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class Elsewhere:
    """Workers that an operator's commands start and stop."""

    def __init__(self, start: str, stop: str) -> None:
        self._start, self._stop = start, stop

    def start(self, number: int) -> bool:
        """Give the command that starts this number."""
        return self._give(self._start, number)

    def stop(self, number: int) -> bool:
        """Give the command that stops it."""
        return self._give(self._stop, number)

    def close(self) -> None:
        """Leave everything as it is."""

    @staticmethod
    def _give(command: str, number: int) -> bool:
        words = [word.replace("{n}", str(number)) for word in shlex.split(command)]
        try:
            code = subprocess.run(words, check=False).returncode  # noqa: S603 - the operator's own command
        except OSError as error:
            show("autoscale", f"`{shlex.join(words)}` cannot be run: {error}")
            return False
        if code:
            show("autoscale", f"`{shlex.join(words)}` ended with exit code {code}; tried again")
        return code == 0


def show(name: str, line: str) -> None:
    """Print a line, and who it is from."""
    print(f"{name} | {line}", flush=True)  # noqa: T201 - what this program has to say


def look(command: list[str], stage: str) -> dict[str, Any] | None:
    """Return the stage as `status` sees it; None, and a line that says why, where it cannot be seen."""
    try:
        ran = subprocess.run(  # noqa: S603 - the operator's own command
            command, cwd=ROOT, capture_output=True, text=True, timeout=STATUS_TIMEOUT, check=False
        )
        found: dict[str, Any] = json.loads(ran.stdout)["stages"][stage]
    except (OSError, subprocess.TimeoutExpired) as error:
        show("autoscale", f"cannot see the queue, and change nothing: {error}")
    except (ValueError, KeyError):
        show("autoscale", f"cannot see the queue, and change nothing: {(ran.stderr or ran.stdout).strip()[-300:]}")
    else:
        return found
    return None


def keep(
    policy: Policy, workers: Workers, command: list[str], stage: str, every: float, told: SimpleQueue[int]
) -> None:
    """Look and act until `told` to stop.

    Args:
        policy: when to change the number of workers.
        workers: where they come from.
        command: what prints the status.
        stage: whose queue is looked at.
        every: seconds between two looks.
        told: ends this, with the first that is put into it.
    """
    situation: Situation | None = None
    while True:
        seen = look(command, stage)
        if seen is not None:
            if situation is None:
                running = 0 if isinstance(workers, Here) else len(seen["workers"])
                situation = Situation(min(running, policy.most))
            working = seen["depth"]["in_progress"] + seen["depth"]["delayed"]
            after = decide(policy, situation, seen["oldest_waiting"], working, time.monotonic())
            situation = act(situation, after, workers, seen)
        with contextlib.suppress(Empty):
            told.get(timeout=every)
            return


def act(before: Situation, after: Situation, workers: Workers, seen: dict[str, Any]) -> Situation:
    """Start or stop the worker that `after` has more or less than `before`; where that fails, all stays as it was."""
    if after.count == before.count:
        return after
    more = after.count > before.count
    if not (workers.start(after.count) if more else workers.stop(before.count)):
        return before
    waiting, oldest = seen["depth"]["waiting"], seen["oldest_waiting"] or 0.0
    show(
        "autoscale", f"{after.count} workers, {before.count} before: {waiting} messages wait, the oldest {oldest:.1f} s"
    )
    return after


def parse() -> argparse.Namespace:
    """Read the command line."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(
        description=lines[0], epilog="\n".join(lines[1:]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    policy = Policy()
    add = parser.add_argument
    add("--stage", required=True, choices=STAGES, help="whose workers")
    add("--least", type=int, default=policy.least, metavar="N", help=f"fewest workers ({policy.least})")
    add("--most", type=int, default=policy.most, metavar="N", help=f"most workers ({policy.most})")
    add("--slow", type=float, default=policy.slow, metavar="S", help=f"longest wait in order (s, {policy.slow:g})")
    add("--looks", type=int, default=policy.looks, metavar="N", help=f"looks in a row that see one ({policy.looks})")
    add("--calm", type=float, default=policy.calm, metavar="S", help=f"idle before one less (s, {policy.calm:g})")
    add("--settle", type=float, default=policy.settle, metavar="S", help=f"pause after a change (s, {policy.settle:g})")
    add("--every", type=float, default=5.0, metavar="S", help="between two looks (s, 5)")
    add("--start", metavar="COMMAND", help="starts worker {n} (the Procfile's command, here)")
    add("--stop", metavar="COMMAND", help="stops worker {n}")
    add("--status", metavar="COMMAND", help="prints the status as JSON (`python -m pipeline status --json`)")
    arguments = parser.parse_args()
    if (arguments.start is None) != (arguments.stop is None):
        parser.error("--start and --stop belong together")
    if not 0 <= arguments.least <= arguments.most or arguments.most < 1:
        parser.error("--least may not be more than --most")
    return arguments


def main() -> int:
    """Scale until a signal says stop."""
    chosen = parse()
    told = stops()
    command = shlex.split(chosen.status or "") or [sys.executable, "-m", "pipeline", "status", "--json"]
    policy = Policy(chosen.least, chosen.most, chosen.slow, chosen.looks, chosen.calm, chosen.settle)
    workers = Here(chosen.stage) if chosen.start is None else Elsewhere(chosen.start, chosen.stop)
    try:
        keep(policy, workers, command, chosen.stage, chosen.every, told)
    finally:
        workers.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
