"""The drill for a machine with a GPU: doctor, set-up by pip wheels, gate and canary on the real card, a killed slot.

Run: .venv/bin/python bench/gpu.py. It installs what the doctor misses into .venv, starts the transcribe stage with
WHISPER_DEVICE=cuda on an embedded Redis, sends it a message, kills a slot's process with messages in flight, and
writes what it saw to bench/results/gpu.json. How fast the card is, `bench/engine.py load --device cuda` says.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CLONE))

RESULTS = CLONE / "bench" / "results" / "gpu.json"
MODEL = os.environ.get("WHISPER_MODEL", "bundled:tiny.en")


def timed(*command, **variables):
    begun = time.monotonic()
    ran = subprocess.run(command, cwd=CLONE, env=os.environ | variables, capture_output=True, text=True)
    return ran, round(time.monotonic() - begun, 2)


def doctor(*arguments, **variables):
    command = [sys.executable, "-m", "pipeline", "doctor", "--stage", "transcribe", "--device", "cuda", "--json"]
    ran, seconds = timed(*command, *arguments, WHISPER_MODEL=MODEL, **variables)
    report = json.loads(ran.stdout)
    lines = [f"{each['code']}: {each['message']}" for check in report["checks"] for each in check["findings"]]
    return {"ok": report["ok"], "exit": ran.returncode, "seconds": seconds, "findings": lines}


def job(url):
    """Start the worker, give it a message, and return how it began and what came out."""
    from voicemill import Client, Options
    from voicemill.store.queue import letter

    os.environ["REDIS_URL"] = url
    client = Client()
    store = client.store
    command = [
        str(Path(sys.executable).with_name("dramatiq")),
        "actors.transcribe",
        "--processes",
        "1",
        "--skip-logging",
    ]
    variables = {"WHISPER_DEVICE": "cuda", "WHISPER_MODEL": MODEL, "LOG_FORMAT": "json"}
    begun = time.monotonic()
    worker = subprocess.Popen(
        command, cwd=CLONE, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    for line in worker.stdout:
        said.append(line.rstrip())
        if "ready for action" in line:
            break
    ready = round(time.monotonic() - begun, 2)
    if worker.poll() is not None:
        return {"ready": None, "exit": worker.returncode, "said": said[-30:]}
    try:
        store.jobs.create("drill", "voice-message.ogg", Options(enrich=False))
        store.audio.put("drill", CLONE / "samples" / "voice-message.ogg")
        store.queues.push(letter("transcribe", "drill"))
        done = client.wait("drill", 120, until="transcribed")
        transcript = done.transcript.as_dict() if done.transcript else {}
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    shown = {name: transcript.get(name) for name in ("device", "compute_type", "degraded")}
    return {"ready": ready, "said": said[-30:], "error": done.error and done.error.as_dict(), **shown}


def killed_slot(device="cuda", messages=16):
    """Kill the model's process with messages in flight; return what became of them, seconds, and the GPUs' memory."""
    from actors.gpus import Gpus
    from pipeline.transcribe import Engine, Options
    from pipeline.transcribe.audio import load

    audio = load(CLONE / "samples" / "voice-message.ogg")
    with Engine(MODEL, device=device) as engine:
        gpus = Gpus()
        gpus.read()
        before, [slot, *_] = gpus.settled(), engine.slots
        futures = [engine.submit(audio, Options()) for _ in range(messages)]
        os.kill(slot.pid, signal.SIGKILL)
        begun = time.monotonic()
        texts = {future.result(300).text for future in futures}
        seconds = round(time.monotonic() - begun, 2)
        replaced = slot.pid not in [one.pid for one in engine.slots]
        return {"done": messages, "texts": sorted(texts), "seconds": seconds, "replaced": replaced, "gpus": before}


def main():
    from cli.embedded import valkey

    result = {
        "gpu": [vars(gpu) for gpu in __import__("pipeline.doctor.devices", fromlist=["x"]).visible()],
        "model": MODEL,
    }
    if not result["gpu"]:
        print("verdict: no GPU is visible here; nothing was shown")
        return 1
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), durable=True) as url:
        result["doctor_before"] = doctor(REDIS_URL=url)
        result["hidden_gpu"] = doctor(REDIS_URL=url, CUDA_VISIBLE_DEVICES="")
        ran, seconds = timed("sh", "scripts/setup_runpod_complete.sh", "--yes", REDIS_URL=url, WHISPER_MODEL=MODEL)
        result["setup"] = {"exit": ran.returncode, "seconds": seconds, "tail": ran.stdout.splitlines()[-40:]}
        result["doctor_cold"] = doctor(REDIS_URL=url)
        result["doctor_warm"] = doctor(REDIS_URL=url)
        result["canary"] = doctor("--canary", REDIS_URL=url)
        result["worker"] = job(url)
    result["killed_slot"] = killed_slot()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    fit = result["doctor_warm"]["ok"] and result["canary"]["ok"] and result["worker"].get("device") == "cuda"
    fit = fit and result["killed_slot"]["replaced"] and len(result["killed_slot"]["texts"]) == 1
    print(json.dumps(result, indent=2, ensure_ascii=False, default=str))
    print(f"verdict: {'the GPU path works' if fit else 'the GPU path does not work'}; see {RESULTS.relative_to(CLONE)}")
    return 0 if fit else 1


if __name__ == "__main__":
    sys.exit(main())
