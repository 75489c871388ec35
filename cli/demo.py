"""`demo`: one voice message through the real pipeline, shown as it goes, with nothing left behind."""

from __future__ import annotations

import _thread
import argparse
import json
import logging
import os
import sys
import tempfile
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli import output, signals
from cli.embedded import StartError, valkey
from cli.supervisor import Supervisor, procfile
from cli.up import BUNDLED, child_environment
from config import environment
from voicemill import options
from voicemill.errors import Refused
from voicemill.job import Job

SAMPLE = environment.ROOT / "samples" / "voice-message.ogg"
SHUTDOWN_TIMEOUT = 5.0  # seconds; nothing is at work any more
TIMEOUT = 600.0  # seconds that the message may take, the first start of a model included
LAST_LINES = 40  # of the log of a stage that ends, shown then: the doctor's report, and what is said after it


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "audio", nargs="?", type=Path, default=SAMPLE, help="a voice message (the sample of this clone)"
    )
    parser.add_argument("--language", metavar="CODE", help="what is spoken, such as ko (en)")


def run(arguments: argparse.Namespace) -> int:
    """Start everything, send the message, show what comes out, stop everything."""
    wrong = _wrong(arguments)
    if wrong:
        print(wrong, file=sys.stderr)
        return 1
    signals.interrupt_once()
    with tempfile.TemporaryDirectory(prefix="voicemill-demo-") as folder:
        try:
            with valkey(Path(folder), durable=False) as url:
                return _run(arguments, url, Path(folder))
        except (StartError, TimeoutError, Refused) as error:
            print(error, file=sys.stderr)
    return 1


def _run(arguments: argparse.Namespace, url: str, folder: Path) -> int:
    os.environ.update(_environment(arguments, url, folder))
    # Only now: the way to Redis is read from the environment.
    from cli import progress, submit  # noqa: PLC0415

    logging.getLogger("voicemill").setLevel(logging.ERROR)  # that no worker is there yet is no news here
    console = Console()
    console.print(f"[bold]{arguments.audio.name}[/bold] through decode, transcribe and enrich:")
    lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
    ended: list[tuple[str, int]] = []

    def show(name: str, line: str) -> None:
        lines[name].append(line)

    def on_end(name: str, code: int) -> None:
        ended.append((name, code))
        _thread.interrupt_main()

    stages = Supervisor(procfile(), dict(os.environ), show, SHUTDOWN_TIMEOUT, on_end)
    try:
        stages.start()
        job_id = submit.send_file(arguments.audio, language=arguments.language)
        progress.follow(job_id, TIMEOUT)
        job = store.jobs.get(job_id)
    except KeyboardInterrupt:
        if not ended:
            raise
        name, code = ended[0]
        said = f"the {name} stage ended with exit code {code}; its last lines:"
        print(said, *lines[name], sep="\n  ", file=sys.stderr)
        return 1
    finally:
        signals.shut_out()
        stages.stop()
    if job.transcript is None:
        print(*output.remarks(job), sep="\n", file=sys.stderr)
        return 1
    _show(job, console)
    return 0


def _wrong(arguments: argparse.Namespace) -> str:
    """Return what is wrong with the arguments; empty: nothing."""
    if not arguments.audio.is_file():
        return f"{arguments.audio} is {'a folder' if arguments.audio.is_dir() else 'not there'}: name an audio file"
    try:
        with arguments.audio.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{arguments.audio} cannot be read: {error.strerror}"
    if arguments.language is not None and arguments.language not in options.LANGUAGES:
        return f"{arguments.language!r} is no language of Whisper's: name a code such as en or ko"
    return ""


def _environment(arguments: argparse.Namespace, url: str, folder: Path) -> dict[str, str]:
    """Return what the stages run with: the bundled model that fits the language, unless the operator named another."""
    arguments.language = arguments.language or "en"
    bundled = BUNDLED if arguments.language == "en" else "bundled:base"
    return child_environment(url) | {
        "WHISPER_MODEL": environment.values().get("WHISPER_MODEL", bundled),
        "WHISPER_CPU_REPLICAS": environment.values().get("WHISPER_CPU_REPLICAS", "1"),  # for one message, all cores
        "TMPDIR": str(folder),
        "NO_COLOR": "1",
        "LOG_FORMAT": "console",
    }


def _show(job: Job, console: Console) -> None:
    transcript: dict[str, Any] = job.transcript or {}
    console.print("\n[bold]Transcript[/bold]")
    for segment in transcript["segments"]:
        times = f"{segment['start']:7.2f} → {segment['end']:6.2f}"
        console.print(f"  [dim]{times}[/dim]  {escape(segment['text'].strip())}", highlight=False, soft_wrap=True)
    if transcript["no_speech"]:
        console.print("  (no speech)")
    probability = transcript.get("language_probability")
    certain = "" if probability is None else f" ({probability:.0%})"
    console.print(f"\n[bold]Language[/bold]  {transcript['language']}{certain}", highlight=False)
    console.print(f"[bold]Summary[/bold]   {escape(_summary(job))}", highlight=False)
    ran = f"{transcript['model']} on {transcript['device']}, {transcript['compute_type']}"
    console.print(f"[bold]Ran[/bold]       {ran}", highlight=False)
    if transcript.get("degraded"):
        console.print(f"[bold]Degraded[/bold]  {transcript['degraded_reason']}", highlight=False, soft_wrap=True)
    table = Table("stage", "waiting (s)", "working (s)", "worker", title_justify="left")
    for name, stage in job.stages.items():
        waited = _seconds(stage.queued_at, stage.started_at)
        worked = _seconds(stage.started_at, stage.finished_at)
        table.add_row(name, waited, worked, stage.worker or "–")
    console.print()
    console.print(table)


def _summary(job: Job) -> str:
    if job.enrichment is not None:
        told = (job.enrichment.get(name) for name in ("title", "summary"))  # a schema of one's own may have neither
        return ": ".join(filter(None, told)) or json.dumps(job.enrichment, ensure_ascii=False)
    if job.enrichment_error is not None:
        return f"none: {job.enrichment_error['message']}"
    return f"none: {job.enrichment_skipped}"


def _seconds(since: float | None, until: float | None) -> str:
    return "–" if since is None or until is None else f"{until - since:.2f}"
