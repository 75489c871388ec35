"""Whether NORMALIZE_LOUDNESS helps: word error rate of one voice at several loudnesses, with it and without it.

python bench/decode_loudness.py [COUNT]     COUNT prompts (60); the table, and in its last line what follows

Writes bench/results/loudness.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import structlog

from bench import prompts
from config.settings import Settings
from pipeline.decode import decode
from pipeline.transcribe import Engine, Options
from pipeline.transcribe.audio import load

RESULT = Path(__file__).with_name("results") / "loudness.json"
ATTENUATIONS = (0, 30, 45, 55)  # dB below the prompts' own loudness, which is about -20 dBFS


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    spoken = prompts.prompts(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
    worst, rows, references = 0.0, [], [prompt.text for prompt in spoken]
    print(f"{'attenuated by':<16}{'as it is':>10}{'normalised':>12}{'difference':>12}   95 % interval")
    with Engine("bundled:tiny.en", device="cpu", replicas=2) as engine:
        for attenuation in ATTENUATIONS:
            plain, raised = (
                prompts.words_wrong(references, heard(engine, spoken, attenuation, raised=raised))
                for raised in (False, True)
            )
            low, high = prompts.interval(raised[0], plain[0], plain[1])
            rates = [float(wrong.sum() / total.sum()) for wrong, total in (plain, raised)]
            worst = max(worst, low)
            rows.append(
                {
                    "attenuation_db": attenuation,
                    "wer": round(rates[0], 4),
                    "wer_normalised": round(rates[1], 4),
                    "interval": [round(low, 4), round(high, 4)],
                }
            )
            figures = f"{rates[0]:>10.3f}{rates[1]:>12.3f}{rates[1] - rates[0]:>+12.3f}"
            print(f"{attenuation:>10} dB   {figures}   {low:+.3f} to {high:+.3f}")
    record = {"model": "bundled:tiny.en", "prompts": len(spoken), "rows": rows}
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    print("MEASURED: no harm is proven" if worst <= 0 else "MEASURED: it does harm, and stays off by default")
    return 0


def heard(engine: Engine, spoken: list[prompts.Prompt], attenuation: int, *, raised: bool) -> list[str]:
    """Return what the model hears in the prompts, as quiet 24 kbit/s Opus."""
    futures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(media_root=name, normalize_loudness=raised)
        for prompt in spoken:
            command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(prompts.SOUNDS / f"{prompt.name}.wav")]
            command += ["-af", f"volume=-{attenuation}dB", "-c:a", "libopus", "-b:a", "24k", str(folder / "quiet.ogg")]
            subprocess.run(command, check=True)
            made = decode("quiet.ogg", folder, settings)
            futures.append(engine.submit(load(made.path), Options(language="en")))
        return [future.result(300).text for future in futures]


if __name__ == "__main__":
    sys.exit(main())
