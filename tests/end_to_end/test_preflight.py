"""The preflight: what the GPU stage does with each WHISPER_DEVICE without a GPU, under the real `dramatiq` command."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from live import audio, jobs, queues, store
from processes import children, slowness

from config.environment import STATE
from voicemill.options import Options
from voicemill.store.queue import letter

CLONE = STATE.parent


@pytest.fixture
def worker(dramatiq):
    """Start the transcribe stage for a device."""

    def start(device, **variables):
        return dramatiq("actors.transcribe", WHISPER_DEVICE=device, WHISPER_CPU_REPLICAS="1", **variables)

    return start


def waiting_job():
    jobs.create("j", "voice-message.ogg", Options(enrich=False))
    audio.put("j", CLONE / "samples" / "voice-message.ogg")
    queues.push(letter("transcribe", "j"))


def events(lines):
    return [json.loads(line) for line in lines if line.startswith("{")]


def assert_start_is_logged(seen):
    """Assert that the start-up log says which model runs where, that it ran, and that the stage takes messages."""
    loaded, proven, ready = (
        next(event for event in seen if event["event"] == name)
        for name in ("Model loaded", "Canary passed", "Stage ready")
    )
    assert loaded["model"] == "bundled:tiny.en"
    assert (loaded["device"], loaded["device_name"]) == ("cpu", "CPU")
    assert loaded["compute_type"].startswith("int8")
    assert Path(loaded["path"]).is_dir()
    assert loaded["seconds"] > 0
    assert proven["seconds"] > 0
    assert ready["stage"] == "transcribe"
    assert [event for event in seen if event["event"] == "CUDA libraries not used"]


def test_cuda_on_an_unfit_machine_prints_the_report_and_exits_1_within_10_s_and_takes_no_message(worker, redis_url):
    waiting_job()

    begun = time.monotonic()
    process = worker("cuda")
    out, _ = process.communicate(timeout=60)

    assert time.monotonic() - begun < 10 * slowness()
    assert process.returncode == 1
    assert "no NVIDIA driver found" in out
    assert "→ Use a machine with a GPU" in out
    assert "docs/troubleshooting.md#driver_absent" in out
    assert "Traceback" not in out
    client = store.redis
    assert client.llen("{voicemill}:transcribe") == 1
    assert not client.keys("*__acks__*transcribe*")
    assert jobs.get("j").status == "queued"


def test_auto_on_an_unfit_machine_warns_once_and_runs_on_the_cpu_with_degraded_results(worker, redis_url, until):
    waiting_job()

    variables = {"LOG_LEVEL": "debug", "WHISPER_COMPUTE_TYPE": "int8_float16"}  # as the doctor advises for a small GPU
    seen = events(until(worker("auto", **variables), "ready for action"))
    job = jobs.wait("j", 60, until="transcribed")

    warnings = [event for event in seen if event["event"].startswith("No fit GPU")]
    assert_start_is_logged(seen)
    rungs = [event["event"] for event in seen if event["event"].startswith("Doctor step ")]
    assert any(rung.startswith("Doctor step 1 of 6, static reading: ") and "libcublas.so.12" in rung for rung in rungs)
    assert any(rung.startswith("Doctor step 2 of 6, driver: libcuda.so.1") for rung in rungs)
    assert len(warnings) == 1
    assert "driver_absent" in warnings[0]["failing"]
    assert any("export WHISPER_DEVICE=cpu" in fix for fix in warnings[0]["fix"])
    assert job.transcript.device == "cpu"
    record = job.transcript.as_dict()
    assert record["degraded"] is True
    assert "no NVIDIA driver found" in record["degraded_reason"]
    assert job.transcript.degraded == record["degraded_reason"]


def test_cpu_examines_no_gpu_and_its_results_are_not_degraded(worker, redis_url, until):
    waiting_job()

    seen = until(worker("cpu"), "ready for action")
    job = jobs.wait("j", 60, until="transcribed")

    assert_start_is_logged(events(seen))
    assert not [line for line in seen if "GPU" in line or "NVIDIA" in line or "Rung" in line]
    assert job.transcript.device == "cpu"
    assert job.transcript.degraded is None
    assert "degraded" not in job.transcript.as_dict()


# Makes a Whisper that claims to be on a GPU and is not: the best that a machine without one can do.
PRETENCE = """
import importlib.abc, importlib.util, sys

class Pretence(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name != "ctranslate2":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        self.real, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        self.real.exec_module(module)

        class Whisper(module.models.Whisper):
            def __init__(self, path, device="cpu", *, compute_type="default", **options):
                self.wanted, self.arithmetic = device, compute_type
                real = {"float16": "int8"}.get(compute_type, compute_type)
                super().__init__(path, device="cpu", compute_type=real, **options)

            @property
            def device(self):
                return self.wanted

            @property
            def compute_type(self):
                return self.arithmetic

        module.models.Whisper = Whisper

sys.meta_path.insert(0, Pretence())
"""


def shown_gpu(folder, *flags):
    """Return the variables of a machine that shows an A40, its cuBLAS compiled with these flags."""
    libraries = {"cuda.so.1": ["-DDRIVER"], "cublasLt.so.12": ["-DIS_LT"], "cublas.so.12": ["-DIS_CUBLAS", *flags]}
    for name, options in libraries.items():
        path = folder / f"lib{name}"
        source = CLONE / "tests" / "faults" / "library.c"
        command = ["cc", "-shared", "-fPIC", source, *options, f"-Wl,-soname,{path.name}", "-o", path, "-ldl"]
        subprocess.run(command, check=True)
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_DRIVER": "12080"}


@pytest.fixture
def deadly_gpu(tmp_path):
    """A machine with a GPU and a cuBLAS that ctranslate2 finds, opens and dies of."""
    return shown_gpu(tmp_path)


@pytest.fixture
def fit_gpu(tmp_path):
    """A machine on which all goes well, down to the model, which runs on the CPU and does not say so."""
    (tmp_path / "sitecustomize.py").write_text(PRETENCE)
    return {**shown_gpu(tmp_path, "-DWHOLE"), "PYTHONPATH": str(tmp_path)}


def test_cuda_on_a_fit_machine_logs_what_it_found_verifies_it_and_runs_there(worker, redis_url, until, fit_gpu):
    waiting_job()

    seen = events(until(worker("cuda", LOG_LEVEL="debug", **fit_gpu), "ready for action"))
    job = jobs.wait("j", 60, until="transcribed")

    said = {event["event"]: event for event in seen}
    assert "45000 of 46080 MiB free" in said["GPU found"]["evidence"]
    verified = [event["finding"] for event in seen if event["event"] == "CUDA library verified"]
    assert verified == ["libcublasLt.so.12 loads", "libcublas.so.12 loads"]
    assert "does not use cuDNN" in said["cuDNN not used"]["finding"]
    assert "a small model ran on the GPU" in said["Small model ran on the GPU"]["finding"]
    names = [Path(file).name for file in said["CUDA libraries verified"]["files"]]
    assert names == ["libcublasLt.so.12", "libcublas.so.12"]
    assert said["Model loaded"]["device_name"] == "NVIDIA A40"
    assert (said["Model loaded"]["device"], said["Model loaded"]["compute_type"]) == ("cuda", "float16")
    assert said["Canary passed"]["seconds"] > 0
    assert "Stage ready" in said
    rungs = ("static reading", "driver", "capability", "loading", "micro canary")
    assert all(any(f"Doctor step {place} of 6, {rung}" in name for name in said) for place, rung in enumerate(rungs, 1))
    assert job.transcript.device == "cuda"
    assert job.transcript.degraded is None
    assert "degraded" not in job.transcript.as_dict()


def test_cuda_with_a_gpu_whose_library_would_kill_the_worker_names_the_library_and_takes_no_message(
    worker, redis_url, deadly_gpu
):
    waiting_job()

    begun = time.monotonic()
    process = worker("cuda", LOG_LEVEL="debug", **deadly_gpu)
    out, _ = process.communicate(timeout=60)

    assert time.monotonic() - begun < 10 * slowness()
    assert process.returncode == 1
    assert "NVIDIA A40 can run the installed ctranslate2" in out
    assert "loading libcublas.so.12 crashes the process: killed by SIGABRT" in out
    assert "pip install 'nvidia-cublas-cu12" in out
    said = [event for event in events(out.splitlines()) if event["event"] == "GPU found"]
    assert "MiB free" in said[0]["evidence"]
    assert all(f"Doctor step {number} of 6" in out for number in (1, 2, 3, 4))
    assert "Doctor step 5" not in out  # no model is run where a library kills
    assert jobs.get("j").status == "queued"


def test_no_process_of_a_worker_ever_holds_the_driver_or_the_library_that_would_kill_it(worker, until, deadly_gpu):
    process = worker("auto", **deadly_gpu)

    until(process, "ready for action")

    mapped = [Path(f"/proc/{pid}/maps").read_text() for pid in (process.pid, *children(process.pid))]
    assert any("libctranslate2" in each for each in mapped)
    assert not any(name in each for each in mapped for name in ("libcuda.so", "libcublas"))
