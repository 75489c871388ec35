"""A job's way through the stages, live, on standard error."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


def follow(job_id: str, timeout: float | None = None) -> None:
    """Show each status as a job enters it, and a bar where a stage counts its pieces, until the job has ended.

    On a terminal it is one line that changes, elsewhere a line a status.

    Raises:
        UnknownJob: there is no such job.
        TimeoutError: it has not ended within `timeout` seconds.
    """
    console = Console(stderr=True)
    began, shown = time.time(), ""
    deadline = None if timeout is None else began + timeout
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        bar.add_task("queued", total=None)
        [line] = bar.tasks
        for event in store.jobs.events(job_id, timeout=None if deadline is None else max(0.0, deadline - time.time())):
            if "progress" in event.detail:
                line.completed, line.total = event.detail["progress"]["done"], event.detail["progress"]["total"]
            elif "retry" in event.detail:
                retry = event.detail["retry"]
                console.print(f"  {event.at - began:6.1f} s  {retry['code']}: tried again at {_clock(retry['at'])}")
            elif event.status != shown:
                shown = event.status
                line.description, line.completed, line.total = event.status, 0, None
                if not console.is_terminal:
                    console.print(f"  {max(0.0, event.at - began):6.1f} s  {event.status}", highlight=False)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
