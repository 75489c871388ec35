"""The metrics of a worker and of the whole system, and when a worker is not ready."""

import base64

import pytest
from live import jobs, queues
from processes import becomes

from config.environment import STATE
from pipeline.metrics import METRICS, PREFIX
from voicemill.options import Options
from voicemill.store.queue import letter

pytestmark = pytest.mark.processes

SAMPLE = STATE.parent / "samples" / "voice-message.ogg"
ENDS = ("_bucket", "_sum", "_count")


def test_every_metric_of_a_worker_is_in_the_catalogue_and_prometheus_can_parse_it(worker):
    status, content_type, body = worker.get("/metrics")

    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    shown = {name for name, *_ in worker.samples() if not name.startswith("process_")}
    assert shown <= {PREFIX + name + end for name in METRICS for end in ("", *ENDS)}
    for name, row in METRICS.items():
        counted_here = row.origin in ("Redis", "stages") and (not row.labels or row.kind != "counter" or row.known)
        assert not counted_here or f"# HELP {PREFIX}{name} {row.help}" in body.replace("\\", ""), name


def test_a_healthy_worker_is_alive_and_ready_and_serves_no_other_page(worker):
    assert worker.get("/healthz")[0] == 200
    assert becomes(lambda: not worker.failing(), 30)
    assert worker.get("/")[0] == 404


@pytest.mark.usefixtures("backend")
def test_jobs_are_counted_by_status_stage_and_code(worker):
    def send(job_id, source):
        jobs.create(job_id, source, Options())
        queues.push(letter("decode", job_id))

    send("forbidden", "/etc/hostname")
    assert jobs.wait("forbidden", timeout=60).status == "failed"
    voice = "data:audio/ogg;base64," + base64.b64encode(SAMPLE.read_bytes()).decode()
    send("decoded", voice)
    assert becomes(lambda: jobs.get("decoded").status == "decoded", 60)
    assert becomes(lambda: worker.samples()["voicemill_queue_messages", "transcribe", "waiting"] == 1, 30)
    assert jobs.cancel("decoded")

    expected = {
        ("voicemill_jobs_ended_total", "failed"): 1,
        ("voicemill_jobs_ended_total", "cancelled"): 1,
        ("voicemill_job_failures_total", "source_forbidden", "decode"): 1,
        ("voicemill_attempts_failed_total", "source_forbidden", "decode"): 1,
        ("voicemill_dead_letters", "decode"): 1,
        ("voicemill_stage_work_seconds_count", "decode"): 1,
        ("voicemill_stage_wait_seconds_count", "decode"): 1,
        ("voicemill_workers", "decode"): 1,
        ("voicemill_workers", "transcribe"): 0,  # no worker reports itself
    }
    assert becomes(lambda: expected.items() <= worker.samples().items(), 30)
    assert worker.samples()["voicemill_queue_oldest_seconds", "transcribe"] > 0


def test_a_worker_is_not_ready_while_its_redis_does_not_answer(worker, frozen):
    assert becomes(lambda: not worker.failing(), 30)

    with frozen():
        assert set(worker.failing()) == {"redis"}
        assert worker.get("/healthz")[0] == 200
        samples = worker.samples()
        assert samples["voicemill_ready", "redis"] == 0
        assert ("voicemill_jobs_unfinished",) not in samples

    assert becomes(lambda: not worker.failing(), 60)
    assert ("voicemill_jobs_unfinished",) in worker.samples()
