"""`demo`: one voice message through the real stages, shown as it goes; everything is removed at the end."""

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

from cli import signals
from cli.embedded import StartError, valkey
from cli.supervisor import Supervisor, procfile
from cli.up import BUNDLED, child_environment
from config import environment
from voicemill import Client, options
from voicemill._cli import output, progress
from voicemill.errors import Refused
from voicemill.job import Job

SAMPLE = environment.ROOT / "samples" / "voice-message.ogg"
SHUTDOWN_TIMEOUT = 5.0  # seconds; no work is left
TIMEOUT = 600.0  # seconds that the message may take, including the first start of a model
LAST_LINES = 40  # of the log of a stage that ends: the doctor's report, and what follows it


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "audio", nargs="?", type=Path, default=SAMPLE, help="a voice message (the sample of this clone)"
    )
    parser.add_argument("--language", metavar="CODE", help="language of the recording, such as ko (en)")


def run(arguments: argparse.Namespace) -> int:
    """Start everything, send the message, show the result, stop everything."""
    reason = _invalid(arguments.audio, arguments.language)
    if reason:
        print(reason, file=sys.stderr)
        return 1
    signals.interrupt_once()
    with tempfile.TemporaryDirectory(prefix="voicemill-demo-") as folder:
        try:
            with valkey(Path(folder), durable=False) as url:
                return _run(arguments.audio, arguments.language or "en", url, Path(folder))
        except (StartError, TimeoutError, Refused) as error:
            print(error, file=sys.stderr)
    return 1


def _run(audio: Path, language: str, url: str, folder: Path) -> int:
    os.environ.update(_environment(language, url, folder))
    logging.getLogger("voicemill").setLevel(logging.ERROR)  # the workers are still starting: not worth a warning
    print(f"{audio.name} through decode, transcribe and enrich:", flush=True)
    lines: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))
    ended: list[tuple[str, int]] = []

    def keep(name: str, line: str) -> None:
        lines[name].append(line)

    def on_end(name: str, code: int) -> None:
        ended.append((name, code))
        _thread.interrupt_main()

    stages = Supervisor(procfile(), dict(os.environ), keep, SHUTDOWN_TIMEOUT, on_end)
    with Client() as client:
        try:
            stages.start()
            job_id = client.send_file(audio, language=language).id
            progress.follow(client, job_id, TIMEOUT)
            job = client.get(job_id)
        except KeyboardInterrupt:
            if not ended:
                raise
            name, code = ended[0]
            reason = f"the {name} stage ended with exit code {code}; its last lines:"
            print(reason, *lines[name], sep="\n  ", file=sys.stderr)
            return 1
        finally:
            signals.ignore()
            stages.stop()
    if job.transcript is None:
        print(*output.remarks(job), sep="\n", file=sys.stderr)
        return 1
    print("\n".join(_shown(job)))
    return 0


def _invalid(audio: Path, language: str | None) -> str | None:
    """Return what is wrong with the arguments; None: nothing."""
    if not audio.is_file():
        return f"{audio} {'is a folder' if audio.is_dir() else 'does not exist'}: name an audio file"
    try:
        with audio.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{audio} cannot be read: {error.strerror}"
    if language is not None and language not in options.LANGUAGES:
        return f"{language!r} is not a language of Whisper's: use a code such as en or ko"
    return None


def _environment(language: str, url: str, folder: Path) -> dict[str, str]:
    """Return the environment of the stages: with the bundled model for the language, unless another one is set."""
    bundled = BUNDLED if language == "en" else "bundled:base"
    return child_environment(url) | {
        "WHISPER_MODEL": environment.values().get("WHISPER_MODEL", bundled),
        "WHISPER_CPU_REPLICAS": environment.values().get("WHISPER_CPU_REPLICAS", "1"),  # all cores for one message
        "TMPDIR": str(folder),
        "NO_COLOR": "1",
        "LOG_FORMAT": "console",
    }


def _shown(job: Job) -> list[str]:
    transcript = job.transcript
    assert transcript is not None  # noqa: S101 - the caller has checked it
    lines = ["", "Transcript"]
    lines += [
        f"  {segment.start:7.2f} → {segment.end:6.2f}  {output.printable(segment.text.strip())}"
        for segment in transcript.segments
    ]
    if transcript.no_speech:
        lines.append("  (no speech)")
    probability = transcript.language_probability
    certain = "" if probability is None else f" ({probability:.0%})"
    lines += [
        "",
        f"Language  {transcript.language}{certain}",
        f"Summary   {output.printable(_summary(job))}",
        f"Ran       {transcript.model} on {transcript.device}, {transcript.compute_type}",
    ]
    if transcript.degraded is not None:
        lines.append(f"Degraded  {transcript.degraded}")
    rows = []
    for name, stage in job.stages.items():
        waited = _seconds(stage.queued_at, stage.started_at)
        worked = _seconds(stage.started_at, stage.finished_at)
        rows.append((name, waited, worked, stage.worker or "–"))
    return [*lines, "", *output.table(("stage", "waited (s)", "worked (s)", "worker"), rows, right=(1, 2))]


def _summary(job: Job) -> str:
    enrichment = job.enrichment
    if enrichment is not None:
        parts = filter(None, (enrichment.title, enrichment.summary))  # a custom schema may have neither
        return ": ".join(parts) or json.dumps(dict(enrichment.fields), ensure_ascii=False)
    if job.enrichment_error is not None:
        return f"none: {job.enrichment_error.message}"
    return f"none: {job.enrichment_skipped}"


def _seconds(since: float | None, until: float | None) -> str:
    return "–" if since is None or until is None else f"{until - since:.2f}"
