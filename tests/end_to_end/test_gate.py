"""What the GPU stage does with each WHISPER_DEVICE on a machine without a GPU, under the real `dramatiq` command."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.environment import STATE
from pipeline import connection, handoff, jobs
from pipeline.options import Options

CLONE = STATE.parent
DRAMATIQ = str(Path(sys.executable).with_name("dramatiq"))


@pytest.fixture
def worker(valkey_url):
    """Start the transcribe stage for a device; its output is read from the returned process."""
    started = []

    def start(device, **variables):
        environment = os.environ | {"REDIS_URL": valkey_url, "WHISPER_DEVICE": device, "LOG_FORMAT": "json"}
        process = subprocess.Popen(
            [DRAMATIQ, "actors.transcribe", "--skip-logging", "--processes", "1"],
            cwd=CLONE,
            env=environment | {"WHISPER_MODEL": "bundled:tiny.en", "WHISPER_CPU_REPLICAS": "1"} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=15)
        finally:
            process.kill()
            process.stdout.close()


def lines_until(process, text):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came:\n{''.join(seen)}")


def waiting_job():
    from actors import broker

    jobs.create("j", "voice-message.ogg", Options(enrich=False))
    handoff.put("j", CLONE / "samples" / "voice-message.ogg")
    broker.enqueue_stage(broker.for_process("transcribe"), "transcribe", "j")


def events(lines):
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_cuda_on_an_unfit_machine_prints_the_report_and_exits_1_within_10_s_and_takes_no_message(worker, redis_url):
    waiting_job()

    begun = time.monotonic()
    process = worker("cuda")
    out, _ = process.communicate(timeout=30)

    assert time.monotonic() - begun < 10
    assert process.returncode == 1
    assert "there is no NVIDIA driver" in out
    assert "→ Rent a GPU machine" in out
    assert "docs/troubleshooting.md#driver_absent" in out
    assert "Traceback" not in out
    client = connection.client()
    assert client.llen("{voicemill}:transcribe") == 1
    assert not client.keys("*__acks__*transcribe*")
    assert jobs.get("j").status == "queued"


def test_auto_on_an_unfit_machine_warns_once_and_works_on_the_cpu_with_results_marked_degraded(worker, redis_url):
    waiting_job()

    seen = events(lines_until(worker("auto"), "ready for action"))
    job = jobs.wait("j", 60, until="transcribed")

    warnings = [event for event in seen if event["event"].startswith("No fit GPU")]
    assert len(warnings) == 1
    assert "driver_absent" in warnings[0]["failing"]
    assert any("export WHISPER_DEVICE=cpu" in fix for fix in warnings[0]["fix"])
    assert job.transcript["device"] == "cpu"
    assert job.transcript["degraded"] is True
    assert "no NVIDIA driver" in job.transcript["degraded_reason"]


def test_cpu_asks_nothing_of_a_gpu_and_its_results_are_not_degraded(worker, redis_url):
    waiting_job()

    seen = lines_until(worker("cpu"), "ready for action")
    job = jobs.wait("j", 60, until="transcribed")

    assert not [line for line in seen if "GPU" in line or "NVIDIA" in line]
    assert job.transcript["device"] == "cpu"
    assert "degraded" not in job.transcript


def test_cuda_with_a_gpu_whose_library_would_kill_the_worker_names_the_library_and_takes_no_message(
    worker, redis_url, tmp_path
):
    # A driver that shows an A40, and a cuBLAS that the real ctranslate2 finds, opens and dies of.
    for name, option in (("cuda.so.1", "DRIVER"), ("cublasLt.so.12", "IS_LT"), ("cublas.so.12", "IS_CUBLAS")):
        path = tmp_path / f"lib{name}"
        options = [f"-D{option}", f"-Wl,-soname,{path.name}", "-o", path]
        source = CLONE / "tests" / "faults" / "library.c"
        subprocess.run(["cc", "-shared", "-fPIC", source, *options, "-ldl"], check=True)
    waiting_job()

    begun = time.monotonic()
    process = worker("cuda", LD_LIBRARY_PATH=str(tmp_path), FAKE_DRIVER="12080")
    out, _ = process.communicate(timeout=30)

    assert time.monotonic() - begun < 10
    assert process.returncode == 1
    assert "NVIDIA A40 can run this build" in out
    assert "loading libcublas.so.12 kills the process: killed by SIGABRT" in out
    assert "pip install 'nvidia-cublas-cu12" in out
    assert jobs.get("j").status == "queued"
