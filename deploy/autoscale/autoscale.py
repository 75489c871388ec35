r"""Keep as many workers of a stage as its queue needs: one more while messages wait too long, one less if none wait.

    .venv/bin/python deploy/autoscale/autoscale.py --stage decode --most 4
    .venv/bin/python deploy/autoscale/autoscale.py --stage transcribe --most 3 \
        --start 'systemctl start voicemill-transcribe@{n}' --stop 'systemctl stop voicemill-transcribe@{n}'

It reads `voicemill status --json` every few seconds. Without --start it runs the Procfile's command itself, on this
machine, as often as needed, and stops all of them at its end. With --start and --stop it runs these commands, in which
`{n}` is 1, 2, 3 ...: for units, machines or containers. What they start outlives this program, which counts it in the
status when it starts again. The last number is the first to be stopped. A worker that is stopped finishes the message
that it works on, so too many or too few workers for a while lose nothing.
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

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cli.signals import stops  # noqa: E402
from cli.supervisor import Supervisor, procfile  # noqa: E402
from config import environment, settings  # noqa: E402 - works without `make install`, too
from voicemill.lifecycle import STAGES  # noqa: E402

STATUS_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Policy:
    """When to start another worker, and when to stop one."""

    least: int = 1
    most: int = 2
    slow: float = 10.0  # seconds that the oldest message may wait
    checks: int = 2  # in a row in which it waited longer: a single slow message is no reason for another worker
    calm: float = 120.0  # seconds without a waiting message after which one worker is stopped
    settle: float = 30.0  # seconds between two changes: a worker needs some to load its model


@dataclass(frozen=True, slots=True)
class Situation:
    """How many workers there should be, and what the last checks saw."""

    count: int
    slow_checks: int = 0
    quiet_since: float | None = None  # monotonic seconds
    changed_at: float | None = None


def decide(policy: Policy, before: Situation, oldest: float | None, working: int, now: float) -> Situation:
    """Return the situation after another check.

    Args:
        policy: when to change the count.
        before: the situation so far.
        oldest: how long the oldest message has waited (seconds); None: none waits.
        working: how many messages are in progress or wait for a retry; they need the last worker.
        now: monotonic seconds.
    """
    quiet = oldest is None and (before.count > 1 or not working)
    seen = replace(
        before,
        slow_checks=before.slow_checks + 1 if oldest is not None and oldest > policy.slow else 0,
        quiet_since=None if not quiet else now if before.quiet_since is None else before.quiet_since,
    )
    if seen.count < policy.least:
        return Situation(seen.count + 1, changed_at=now)
    if seen.changed_at is not None and now - seen.changed_at < policy.settle:
        return seen
    if seen.slow_checks >= policy.checks and seen.count < policy.most:
        return Situation(seen.count + 1, changed_at=now)
    calm = seen.quiet_since is not None and now - seen.quiet_since >= policy.calm
    if calm and seen.count > policy.least:
        return Situation(seen.count - 1, changed_at=now)
    return seen


class Workers(Protocol):
    """Starts and stops workers; each method returns whether that worked."""

    def start(self, number: int) -> bool:
        """Start the worker of this number."""

    def stop(self, number: int) -> bool:
        """Stop the worker of this number after its current message."""

    def close(self) -> None:
        """Clean up at the end."""


class Here:
    """Workers as children of this process, which restarts those that end by themselves."""

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
        """Stop the worker of this number and wait for its end."""
        self._running.pop(number).stop()
        return True

    def close(self) -> None:
        """Stop all of them at the same time."""
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
        """Run the command that starts this number."""
        return self._run(self._start, number)

    def stop(self, number: int) -> bool:
        """Run the command that stops it."""
        return self._run(self._stop, number)

    def close(self) -> None:
        """Leave everything as it is."""

    @staticmethod
    def _run(command: str, number: int) -> bool:
        words = [word.replace("{n}", str(number)) for word in shlex.split(command)]
        try:
            code = subprocess.run(words, check=False).returncode  # noqa: S603 - the operator's own command
        except OSError as error:
            show("autoscale", f"`{shlex.join(words)}` cannot be run: {error}")
            return False
        if code:
            show("autoscale", f"`{shlex.join(words)}` ended with exit code {code}; retried")
        return code == 0


def show(name: str, line: str) -> None:
    """Print a line and where it comes from."""
    print(f"{name} | {line}", flush=True)  # noqa: T201 - the log of this program


def read_status(command: list[str], stage: str) -> dict[str, Any] | None:
    """Return a stage's status; print why and return None if it cannot be read."""
    try:
        ran = subprocess.run(  # noqa: S603 - the operator's own command
            command, cwd=ROOT, capture_output=True, text=True, timeout=STATUS_TIMEOUT, check=False
        )
        found: dict[str, Any] = json.loads(ran.stdout)["stages"][stage]
    except (OSError, subprocess.TimeoutExpired) as error:
        show("autoscale", f"the status cannot be read, nothing is changed: {error}")
    except (ValueError, KeyError):
        show("autoscale", f"the status cannot be read, nothing is changed: {(ran.stderr or ran.stdout).strip()[-300:]}")
    else:
        return found
    return None


def keep(
    policy: Policy, workers: Workers, command: list[str], stage: str, every: float, stop: SimpleQueue[int]
) -> None:
    """Check the status and act, until something is put into `stop`.

    Args:
        policy: when to change the number of workers.
        workers: where they come from.
        command: what prints the status.
        stage: of the workers.
        every: seconds between two checks.
        stop: ends this.
    """
    situation: Situation | None = None
    while True:
        seen = read_status(command, stage)
        if seen is not None:
            if situation is None:
                running = 0 if isinstance(workers, Here) else len(seen["workers"])
                situation = Situation(min(running, policy.most))
            working = seen["depth"]["in_progress"] + seen["depth"]["delayed"]
            after = decide(policy, situation, seen["oldest_waiting"], working, time.monotonic())
            situation = act(situation, after, workers, seen)
        with contextlib.suppress(Empty):
            stop.get(timeout=every)
            return


def act(before: Situation, after: Situation, workers: Workers, seen: dict[str, Any]) -> Situation:
    """Start or stop the worker by which `after` differs from `before`; return `before` if that fails."""
    if after.count == before.count:
        return after
    more = after.count > before.count
    if not (workers.start(after.count) if more else workers.stop(before.count)):
        return before
    waiting, oldest = seen["depth"]["waiting"], seen["oldest_waiting"] or 0.0
    show(
        "autoscale",
        f"{after.count} workers, {before.count} before: {waiting} messages wait, the oldest for {oldest:.1f} s",
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
    add("--stage", required=True, choices=STAGES, help="stage of the workers")
    add("--least", type=int, default=policy.least, metavar="N", help=f"fewest workers ({policy.least})")
    add("--most", type=int, default=policy.most, metavar="N", help=f"most workers ({policy.most})")
    add("--slow", type=float, default=policy.slow, metavar="S", help=f"longest acceptable wait (s, {policy.slow:g})")
    add(
        "--checks",
        "--looks",
        type=int,
        default=policy.checks,
        metavar="N",
        help=f"longer waits in a row ({policy.checks})",
    )
    add(
        "--calm",
        type=float,
        default=policy.calm,
        metavar="S",
        help=f"idle time before one is stopped (s, {policy.calm:g})",
    )
    add(
        "--settle",
        type=float,
        default=policy.settle,
        metavar="S",
        help=f"least time between changes (s, {policy.settle:g})",
    )
    add("--every", type=float, default=5.0, metavar="S", help="between two checks (s, 5)")
    add("--start", metavar="COMMAND", help="starts worker {n} (the Procfile's command, here)")
    add("--stop", metavar="COMMAND", help="stops worker {n}")
    add("--status", metavar="COMMAND", help="prints the status as JSON (`voicemill status --json`)")
    arguments = parser.parse_args()
    if (arguments.start is None) != (arguments.stop is None):
        parser.error("--start and --stop belong together")
    if not 0 <= arguments.least <= arguments.most or arguments.most < 1:
        parser.error("--least may not be more than --most")
    return arguments


def main() -> int:
    """Scale until a signal stops it."""
    chosen = parse()
    stop = stops()
    command = shlex.split(chosen.status or "") or [sys.executable, "-m", "voicemill", "status", "--json"]
    policy = Policy(chosen.least, chosen.most, chosen.slow, chosen.checks, chosen.calm, chosen.settle)
    workers = Here(chosen.stage) if chosen.start is None else Elsewhere(chosen.start, chosen.stop)
    try:
        keep(policy, workers, command, chosen.stage, chosen.every, stop)
    finally:
        workers.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
