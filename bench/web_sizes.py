"""Send recordings from a second to an hour with OpenAI's own client, its default timeout, and real stages.

    python bench/web_sizes.py [--seconds 1 10 60 600 3600]

The speech is made by espeak-ng, which `make test` installs. Each transcript must be complete, with few wrong words.
Writes bench/results/web-sizes.json; the exit code is 1 if one is not.
"""

import argparse
import json
import math
import os
import queue
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openai

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from prompts import wer  # noqa: E402 - it lies beside this file

from cli.embedded import valkey  # noqa: E402 - the repository is not installed
from cli.supervisor import Supervisor, procfile  # noqa: E402
from voicemill.lifecycle import STAGES  # noqa: E402
from web import auth  # noqa: E402

WHO = "Anna Peter Maria Thomas Susan Robert Linda David Helen Martin".split()
WHAT = "invoice contract heating printer schedule budget meeting parcel ticket keyboard".split()
WHERE = "Berlin London Madrid Chicago Vienna Boston Dublin Sydney Toronto Oslo".split()
WHEN = "Monday Tuesday Wednesday Thursday Friday tomorrow tonight".split()
WRONG = 0.15  # share of wrong words, at most: a synthetic voice and the smallest model
SENTENCE = 6.5  # seconds, about
FEWEST = 60  # seconds of speech from which the share of wrong words means something
START = 120  # seconds within which server and stages must be ready


def recording(folder, seconds):
    """Return a recording of about this length and its text; one shorter than a sentence is cut to the length."""
    file, wav, pick = folder / f"{seconds}.ogg", folder / f"{seconds}.wav", random.Random(0).choice
    sentences = [
        f"{pick(WHO)} asks {pick(WHO)} to send the {pick(WHAT)} to {pick(WHERE)} before {pick(WHEN)}, "
        f"and to call {pick(WHO)} about the {pick(WHAT)}."
        for _ in range(math.ceil(seconds / SENTENCE))
    ]
    speak = ["espeak-ng", "-v", "en-us", "-s", "150", "-w", wav]
    subprocess.run(speak, input="\n\n".join(sentences), text=True, check=True)
    cut = ["-t", str(seconds)] if seconds < SENTENCE else []
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, *cut, "-c:a", "libopus", "-b:a", "24k", file], check=True)
    return file, " ".join(sentences)


def probe(file):
    """Return the duration of a file (seconds)."""
    words = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", file]
    return round(float(subprocess.run(words, capture_output=True, text=True, check=True).stdout), 2)


def measure(client, recorded, seconds):
    """Send a file and return its row."""
    file, text = recorded
    length = probe(file)
    began = time.monotonic()
    with file.open("rb") as opened:
        made = client.audio.transcriptions.create(
            model="whisper-1", file=opened, language="en", response_format="verbose_json"
        )
    took = time.monotonic() - began
    wrong = round(wer([text], [made.text]), 4) if seconds >= FEWEST else None
    return {
        "audio_s": length,
        "bytes": file.stat().st_size,
        "took_s": round(took, 1),
        "reported_s": made.duration,
        "wer": wrong,
        "kept": abs(made.duration - length) <= 0.2 and (wrong is None or wrong <= WRONG),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, nargs="+", default=[1, 10, 60, 600, 3600])
    lengths = parser.parse_args().seconds
    key, entry = auth.generate("sizes")
    lines = queue.Queue()
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder) / "redis", durable=False) as url:
        files = {seconds: recording(Path(folder), seconds) for seconds in lengths}
        variables = os.environ | {
            "REDIS_URL": url,
            "API_KEYS": entry,
            "PORT": "0",
            "WHISPER_MODEL": "bundled:tiny.en",
            "WHISPER_DEVICE": "cpu",
            "LOG_FORMAT": "json",
        }
        commands = {name: command for name, command in procfile().items() if name in STAGES}
        commands["web"] = [sys.executable, "-m", "pipeline", "web"]
        stages = Supervisor(commands, variables, lambda name, line: lines.put((name, line)), 30)
        stages.start()
        try:
            address = None
            while address is None:
                name, line = lines.get(timeout=START)
                found = re.search(r"127\.0\.0\.1:\d+", line) if name == "web" else None
                address = found and found[0]
            with openai.OpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0) as client:
                measure(client, files[lengths[0]], lengths[0])  # it returns when the stages are ready
                rows = [measure(client, file, seconds) for seconds, file in files.items()]
        finally:
            stages.stop()
    result = {"model": "tiny.en", "cores": os.cpu_count(), "rows": rows}
    (ROOT / "bench" / "results" / "web-sizes.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    lost = [row["audio_s"] for row in rows if not row["kept"]]
    print(f"MISSED: incomplete: {lost} s" if lost else "all transcripts are complete")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
