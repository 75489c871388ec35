"""The catalogue of all metrics: name, meaning, and which process counts each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "voicemill_"

Kind = Literal["counter", "gauge", "histogram"]
Origin = Literal["Redis", "stages", "transcribe", "worker"]

SHORT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)  # seconds
LONG = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)  # seconds
WINDOWS = (1, 2, 4, 8, 16, 32)
PASSES = ("quick", "second", "beam", "temperature", "halves")
FACTORS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, without its prefix.

    `origin` is `Redis` for metrics that every worker reads there and that are the same from each; `stages` and
    `transcribe` for those that the workers of all stages, or of transcribe alone, count; `worker` for the state of the
    worker itself. `known` are values of the only label that a counter exposes from the start, as 0: Prometheus sees no
    increase in a series that did not exist before.
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
    "jobs_ended_total": Metric("counter", ("status",), "jobs", "Jobs that ended, by their status", "Redis"),
    "job_failures_total": Metric(
        "counter", ("stage", "code"), "jobs", "Jobs that failed, by stage and error code", "Redis"
    ),
    "jobs_unfinished": Metric("gauge", (), "jobs", "Jobs that have not ended", "Redis"),
    "handoff_bytes": Metric("gauge", (), "bytes", "Audio between stages that is stored in Redis", "Redis"),
    # Queues
    "queue_messages": Metric(
        "gauge", ("queue", "state"), "messages", "Messages waiting, in_progress or delayed; of webhook: jobs", "Redis"
    ),
    "queue_oldest_seconds": Metric(
        "gauge",
        ("queue",),
        "seconds",
        "Age of the oldest waiting message; of webhook: how long overdue",
        "Redis",
    ),
    "dead_letters": Metric("gauge", ("queue",), "messages", "Messages whose work failed for good", "Redis"),
    "workers": Metric("gauge", ("stage",), "processes", "Live workers that consume a queue", "Redis"),
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
        "counter", ("stage", "code"), "attempts", "Attempts that failed, retried or not", "stages"
    ),
    # Transcription
    "audio_seconds_total": Metric("counter", (), "seconds", "Audio of transcribed messages", "transcribe"),
    "batch_windows": Metric("histogram", (), "windows", "Windows in each batch", "transcribe", buckets=WINDOWS),
    "batch_seconds": Metric("histogram", (), "seconds", "How long each batch took", "transcribe", buckets=SHORT),
    "real_time_factor": Metric(
        "histogram",
        (),
        "seconds a second",
        "Time that a batch takes for each second of its audio",
        "transcribe",
        buckets=FACTORS,
    ),
    "decoded_windows_total": Metric(
        "counter",
        ("decoding_pass",),
        "windows",
        "Windows by the decoding pass that was accepted; quick is the first",
        "transcribe",
        known=PASSES,
    ),
    "windows_total": Metric(
        "counter", ("look",), "windows", "Deprecated: use decoded_windows_total", "transcribe", known=PASSES
    ),
    "batches_failed_total": Metric(
        "counter",
        ("reason",),
        "batches",
        "Batches that failed: out_of_memory, died, hung, fault",
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
        "gauge", ("state",), "processes", "Model processes that are ready, starting or retired", "transcribe"
    ),
    "slot_proof_age_seconds": Metric(
        "gauge", ("slot",), "seconds", "Since a model process last passed its canary or a batch", "transcribe"
    ),
    # The worker
    "worker_info": Metric("gauge", ("stage", "device"), "1", "The stage and the device of this worker"),
    "ready": Metric("gauge", ("condition",), "0 or 1", "Conditions of /readyz: running, redis, consuming, fit, canary"),
    "gpu_memory_used_bytes": Metric("gauge", ("gpu", "name"), "bytes", "Memory in use on a GPU of this worker"),
    "gpu_memory_total_bytes": Metric("gauge", ("gpu", "name"), "bytes", "Memory of a GPU of this worker"),
    "gpu_utilisation_ratio": Metric("gauge", ("gpu", "name"), "0 to 1", "Share of time that a GPU was busy"),
    "gpu_temperature_celsius": Metric("gauge", ("gpu", "name"), "°C", "Temperature of a GPU"),
    # Gemini: sums of the day (UTC), which restart at midnight, as counters may
    "summaries_total": Metric("counter", (), "summaries", "Summaries written", "Redis"),
    "gemini_requests_total": Metric("counter", (), "requests", "Requests to Gemini", "Redis"),
    "gemini_failures_total": Metric("counter", (), "requests", "Requests to Gemini that failed", "Redis"),
    "gemini_tokens_total": Metric(
        "counter", ("direction",), "tokens", "Tokens sent (input), received (output)", "Redis"
    ),
    "gemini_cost_dollars_total": Metric(
        "counter", (), "US dollars", "Estimated cost of the requests, by Google's prices", "Redis"
    ),
    "gemini_unpriced_total": Metric("counter", (), "requests", "Requests whose price is not known", "Redis"),
    # Webhooks
    "webhook_deliveries_total": Metric(
        "counter", ("verdict",), "deliveries", "Deliveries: delivered, skipped, failed (and retried), stopped", "Redis"
    ),
    "webhook_receivers": Metric(
        "gauge", ("state",), "receivers", "Receivers with pending events: well, failing, or failing and paused", "Redis"
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
