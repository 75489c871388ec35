"""The one table of all metrics: what each is called, what it means, and who counts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "voicemill_"

Kind = Literal["counter", "gauge", "histogram"]
Origin = Literal["Redis", "stages", "transcribe", "worker"]

SHORT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)  # seconds
LONG = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)  # seconds
WINDOWS = (1, 2, 4, 8, 16, 32)
FACTORS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, without its prefix.

    `origin` is `Redis` for what is the same from every worker; `stages` and `transcribe` for what the workers of the
    stages, or of that one, count; `worker` for what every worker tells of itself when asked. `known` are values of the
    one label that a counter shows from the start, as 0: Prometheus sees no increase in what was not there before.
    """

    kind: Kind
    labels: tuple[str, ...]
    unit: str
    help: str
    origin: Origin = "worker"
    buckets: tuple[float, ...] = ()
    known: tuple[str, ...] = ()


METRICS = {
    # Jobs
    "jobs_ended_total": Metric("counter", ("status",), "jobs", "Jobs that ended, by how", "Redis"),
    "job_failures_total": Metric(
        "counter", ("stage", "code"), "jobs", "Jobs that failed, by stage and error code", "Redis"
    ),
    "jobs_unfinished": Metric("gauge", (), "jobs", "Jobs that have not ended", "Redis"),
    "handoff_bytes": Metric("gauge", (), "bytes", "Audio between the stages, as far as Redis holds it", "Redis"),
    # Queues
    "queue_messages": Metric(
        "gauge", ("queue", "state"), "messages", "Messages waiting, in_progress or delayed; of webhook: jobs", "Redis"
    ),
    "queue_oldest_seconds": Metric(
        "gauge", ("queue",), "seconds", "Age of the message that is next; of webhook: how long overdue", "Redis"
    ),
    "dead_letters": Metric("gauge", ("queue",), "messages", "Messages whose work failed for good", "Redis"),
    "workers": Metric("gauge", ("stage",), "processes", "Live workers that take messages of a queue", "Redis"),
    # Work of the stages
    "stage_wait_seconds": Metric(
        "histogram",
        ("stage",),
        "seconds",
        "How long a job waited for a stage, retries included",
        "stages",
        buckets=LONG,
    ),
    "stage_work_seconds": Metric(
        "histogram", ("stage",), "seconds", "How long a stage's last attempt at a job took", "stages", buckets=SHORT
    ),
    "attempts_failed_total": Metric(
        "counter", ("stage", "code"), "attempts", "Attempts that failed, whether or not another follows", "stages"
    ),
    # Transcription
    "audio_seconds_total": Metric("counter", (), "seconds", "Audio of transcribed messages", "transcribe"),
    "batch_windows": Metric(
        "histogram", (), "windows", "Windows in a batch that a slot decoded", "transcribe", buckets=WINDOWS
    ),
    "batch_seconds": Metric(
        "histogram", (), "seconds", "How long a slot took for a batch", "transcribe", buckets=SHORT
    ),
    "real_time_factor": Metric(
        "histogram",
        (),
        "seconds a second",
        "A slot's time for a second of a batch's audio",
        "transcribe",
        buckets=FACTORS,
    ),
    "windows_total": Metric(
        "counter",
        ("look",),
        "windows",
        "Windows by the look that was believed: beyond quick the guard asked for more",
        "transcribe",
        known=("quick", "second", "beam", "temperature", "halves"),
    ),
    "batches_failed_total": Metric(
        "counter",
        ("reason",),
        "batches",
        "Batches that ended badly: out_of_memory, died, hung, fault",
        "transcribe",
        known=("out_of_memory", "died", "hung", "fault"),
    ),
    "slot_restarts_total": Metric(
        "counter",
        ("reason",),
        "restarts",
        "Model processes replaced: died, hung, fault, died_idle, canary, unfit, grown",
        "transcribe",
        known=("died", "hung", "fault", "died_idle", "canary", "unfit", "grown"),
    ),
    "slots": Metric(
        "gauge", ("state",), "processes", "Model processes that are ready, starting, or retired for good", "transcribe"
    ),
    "slot_proof_age_seconds": Metric(
        "gauge", ("slot",), "seconds", "Since a model process last passed its canary or a batch", "transcribe"
    ),
    # The worker
    "worker_info": Metric("gauge", ("stage", "device"), "1", "What this worker does, on what"),
    "ready": Metric("gauge", ("condition",), "0 or 1", "Conditions of /readyz: running, redis, consuming, fit, canary"),
    "gpu_memory_used_bytes": Metric("gauge", ("gpu", "name"), "bytes", "Memory in use on a GPU of this worker"),
    "gpu_memory_total_bytes": Metric("gauge", ("gpu", "name"), "bytes", "Memory of a GPU of this worker"),
    "gpu_utilisation_ratio": Metric("gauge", ("gpu", "name"), "0 to 1", "Share of the time in which a GPU was busy"),
    "gpu_temperature_celsius": Metric("gauge", ("gpu", "name"), "°C", "Temperature of a GPU"),
    # Gemini: the day's sums (UTC), which begin anew at midnight as a counter may
    "summaries_total": Metric("counter", (), "summaries", "Summaries written", "Redis"),
    "gemini_requests_total": Metric("counter", (), "requests", "Requests that went to Gemini", "Redis"),
    "gemini_failures_total": Metric("counter", (), "requests", "Of them, those that went wrong", "Redis"),
    "gemini_tokens_total": Metric(
        "counter", ("direction",), "tokens", "Tokens sent (input), received (output)", "Redis"
    ),
    "gemini_cost_dollars_total": Metric("counter", (), "US dollars", "What they cost, by Google's prices", "Redis"),
    "gemini_unpriced_total": Metric("counter", (), "requests", "Requests whose price is not known", "Redis"),
    # Webhooks
    "webhook_deliveries_total": Metric(
        "counter", ("verdict",), "deliveries", "Deliveries: delivered, skipped, failed (tried again), stopped", "Redis"
    ),
    "webhook_receivers": Metric(
        "gauge", ("state",), "receivers", "Receivers to be told something: well, failing, or paused as well", "Redis"
    ),
}


def table() -> str:
    """Return the Markdown table of all metrics, as the documentation shows it."""
    lines = ["| metric | kind | labels | unit | from | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for name, metric in METRICS.items():
        labels = " ".join(f"`{label}`" for label in metric.labels)
        lines.append(
            f"| `{PREFIX}{name}` | {metric.kind} | {labels} | {metric.unit} | {metric.origin} | {metric.help} |"
        )
    return "\n".join(lines)
