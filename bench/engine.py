"""How fast and how right the engine is, against faster-whisper as it comes and at its best tuning.

    python bench/engine.py speed [--model bundled:tiny.en] [--prompts 100] [--detect]
    python bench/engine.py accuracy | times | latency | long | load [--device cuda] | fair

Each pair of runs is taken in turn in one process tree; figures are medians of `--rounds`. A table is printed, the
figures go to bench/results/, and the last line is the verdict: exit code 1 where a floor is missed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import re
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import engine_rivals as rivals
import numpy as np
import prompts as speech
import structlog
from threadpoolctl import threadpool_limits

from pipeline.transcribe import Engine, Options
from pipeline.transcribe.backends.whisper import models
from pipeline.transcribe.machine import available_cores, processor

RESULTS = Path(__file__).resolve().parent / "results"
MARGIN = {"bundled:tiny.en": 0.003, "bundled:base": 0.005}  # how much worse the word error rate may be
FLOORS = {  # how many times as fast as it comes, and as its best tuning; (model, language detected)
    ("bundled:tiny.en", False): (6.5, 3.3),
    ("bundled:base", False): (5.5, 3.2),
    ("bundled:base", True): (4.0, 2.4),
}

Rows = list[dict[str, Any]]


def speed(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Audio seconds per second on a backlog of short messages, segment times included."""
    items = speech.prompts(args.prompts)
    audios, seconds = [item.audio for item in items], sum(item.duration for item in items)
    options = {} if args.detect else {"language": "en"}
    path = models.resolve(args.model)
    contenders = [rivals.as_it_comes(path), *rivals.tuned(path, available_cores())]
    took: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    with Engine(args.model, device="cpu") as engine:
        for _ in range(args.rounds):
            started = time.perf_counter()
            found = engine.transcribe(audios, [Options(**options)] * len(audios))
            took.setdefault("voicemill", []).append(time.perf_counter() - started)
            texts["voicemill"] = [one.text for one in found]
            for rival in contenders:
                started = time.perf_counter()
                texts[rival.name] = rival.texts(audios, **options)
                took.setdefault(rival.name, []).append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in took.items()}
    ours = medians["voicemill"]
    references = [item.text for item in items]
    rows = [
        {
            "way": name,
            "seconds": round(value, 2),
            "audio_seconds_per_second": round(seconds / value, 1),
            "times_slower": round(value / ours, 2),
            "wer": round(speech.wer(references, texts[name]), 4),
        }
        for name, value in medians.items()
    ]
    plain, best = medians["as it comes"] / ours, min(value for name, value in medians.items() if "tuned" in name) / ours
    missed = []
    if floor := FLOORS.get((args.model, args.detect)):
        missed += [f"{plain:.1f} times as it comes, floor {floor[0]}"] if plain < floor[0] else []
        missed += [f"{best:.1f} times its best tuning, floor {floor[1]}"] if best < floor[1] else []
    return rows, missed


def accuracy(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Word error rate on all usable prompts, with the interval of the difference."""
    items = speech.prompts(args.prompts if args.prompts != DEFAULT_PROMPTS else None)
    audios, references = [item.audio for item in items], [item.text for item in items]
    path = models.resolve(args.model)
    options = {} if args.detect else {"language": "en"}
    worker_a_core = rivals.Rival(
        "as it comes", rivals.tuned(path, available_cores())[1].model, available_cores(), {}
    )  # the same words as one after another, in half the time
    theirs, total = speech.words_wrong(references, worker_a_core.texts(audios, **options))
    with Engine(args.model, device="cpu") as engine:
        found = engine.transcribe(audios, [Options(**options)] * len(audios))
    ours, _ = speech.words_wrong(references, [one.text for one in found])
    low, high = speech.interval(ours, theirs, total)
    difference = (ours.sum() - theirs.sum()) / total.sum()
    rows = [
        {
            "way": "voicemill",
            "prompts": len(items),
            "words": int(total.sum()),
            "wer": round(ours.sum() / total.sum(), 4),
        },
        {
            "way": "as it comes",
            "prompts": len(items),
            "words": int(total.sum()),
            "wer": round(theirs.sum() / total.sum(), 4),
        },
        {"way": "difference", "wer": round(float(difference), 4), "low": round(low, 4), "high": round(high, 4)},
    ]
    margin = MARGIN[args.model]
    return rows, [f"WER {difference * 100:+.2f} points, at most {margin * 100:+.1f}"] if difference > margin else []


def times(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """How far segment and word times are from faster-whisper's, where the words agree."""
    items = speech.prompts(args.prompts)
    rival = rivals.as_it_comes(models.resolve(args.model))
    with Engine(args.model, device="cpu") as engine:
        ours = engine.transcribe(
            [item.audio for item in items], [Options(language="en", word_timestamps=True)] * len(items)
        )
    segments, words = [], []
    for item, mine in zip(items, ours, strict=True):
        theirs = rival.one(item.audio, language="en", word_timestamps=True)
        plain = rival.one(item.audio, language="en")
        segments += [abs(mine.segments[0].start - plain[0].start)] if plain and mine.segments else []
        segments += [abs(mine.segments[-1].end - plain[-1].end)] if plain and mine.segments else []
        mine_words = [word for segment in mine.segments for word in segment.words or ()]
        their_words = [word for segment in theirs for word in segment.words]
        matcher = difflib.SequenceMatcher(
            None, [_bare(w.word) for w in mine_words], [_bare(w.word) for w in their_words]
        )
        for block in matcher.get_matching_blocks():
            for step in range(block.size):
                one, two = mine_words[block.a + step], their_words[block.b + step]
                words += [abs(one.start - two.start), abs(one.end - two.end)]
    rows = [
        {
            "what": name,
            "compared": len(values),
            "median_s": round(float(np.median(values)), 3),
            "p95_s": round(float(np.percentile(values, 95)), 3),
        }
        for name, values in (("segment starts and ends", segments), ("word starts and ends", words))
    ]
    missed = [f"segments {rows[0]['median_s']} s off, at most 0.3"] if rows[0]["median_s"] > 0.3 else []
    return rows, missed + ([f"words {rows[1]['median_s']} s off, at most 0.15"] if rows[1]["median_s"] > 0.15 else [])


def latency(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """One message of about 5 s in an idle engine."""
    spoken = [item for item in speech.prompts() if not item.name.startswith("silence/")]
    item = min(spoken, key=lambda one: abs(one.duration - 5))
    rival = rivals.as_it_comes(models.resolve(args.model))
    took: dict[str, list[float]] = {"voicemill": [], "as it comes": []}
    with Engine(args.model, device="cpu") as engine:
        for _ in range(10 * args.rounds):
            started = time.perf_counter()
            engine.transcribe([item.audio], [Options(language="en")])
            took["voicemill"].append(time.perf_counter() - started)
            started = time.perf_counter()
            rival.one(item.audio, language="en")
            took["as it comes"].append(time.perf_counter() - started)
    rows = [{"way": name, "message_s": round(item.duration, 2), **_spread(values)} for name, values in took.items()]
    share = rows[0]["p50_s"] / rows[1]["p50_s"]
    return rows, [f"{share:.2f} of faster-whisper's latency, at most 0.6"] if share > 0.6 else []


def long(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """One long recording, against the batched pipeline as it comes."""
    item = speech.joined(speech.prompts(seed=1), args.minutes * 60)
    path = models.resolve(args.model)
    batched = rivals.batched(path)
    took: dict[str, list[float]] = {"voicemill": [], "batched pipeline": []}
    with Engine(args.model, device="cpu") as engine:
        for _ in range(args.rounds):
            started = time.perf_counter()
            [mine] = engine.transcribe([item.audio], [Options(language="en")])
            took["voicemill"].append(time.perf_counter() - started)
            started = time.perf_counter()
            [theirs] = batched.texts([item.audio], language="en")
            took["batched pipeline"].append(time.perf_counter() - started)
    rows = [
        {
            "way": name,
            "minutes": args.minutes,
            "seconds": round(statistics.median(values), 1),
            "wer": round(speech.wer([item.text], [text]), 4),
        }
        for (name, values), text in zip(took.items(), (mine.text, theirs), strict=True)
    ]
    missed = ["slower than the batched pipeline"] if rows[0]["seconds"] > rows[1]["seconds"] else []
    return rows, missed + (["a higher WER than the batched pipeline"] if rows[0]["wer"] > rows[1]["wer"] else [])


def load(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Throughput and latency with 1 to 32 messages in flight, on a GPU to 64, beside faster-whisper."""
    items = speech.prompts(args.prompts)
    path = models.resolve(args.model)
    if args.device == "cuda":
        contenders, steps = [rivals.as_it_comes(path, "cuda"), rivals.batched(path, "cuda")], (1, 8, 16, 32, 64)
    else:
        contenders, steps = rivals.tuned(path, available_cores())[:1], (1, 2, 4, 8, 16, 32)
    rows: Rows = []
    with Engine(args.model, device=args.device) as engine, threadpool_limits(1, user_api="blas"):  # as in `Rival.texts`

        def ours(audio: np.ndarray) -> None:
            engine.submit(audio, Options(language="en")).result()

        calls = {"voicemill": ours} | {rival.name: partial(rival.one, language="en") for rival in contenders}
        for in_flight in steps:
            taken: dict[str, list[float]] = {name: [] for name in calls}
            walls: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(args.rounds):
                for name, call in calls.items():
                    seconds, wall = _offer([item.audio for item in items], call, in_flight)
                    taken[name] += seconds
                    walls[name].append(wall)
            rows += [
                {
                    "in_flight": in_flight,
                    "way": name,
                    "messages_per_s": round(len(items) / statistics.median(walls[name]), 2),
                    **_spread(taken[name]),
                }
                for name in taken
            ]
    best = {step: min(row["p95_s"] for row in rows if row["in_flight"] == step) for step in steps}
    behind = [row["in_flight"] for row in rows if row["way"] == "voicemill" and row["p95_s"] > best[row["in_flight"]]]
    return rows, [f"p95 behind faster-whisper's with {behind} in flight"] if behind else []


def fair(args: argparse.Namespace) -> tuple[Rows, list[str]]:
    """Short messages with and without a one-hour recording among them."""
    items = sorted(speech.prompts(300), key=lambda one: one.duration)[:100]
    np.random.default_rng(0).shuffle(items)  # type: ignore[arg-type] # a list is a sequence
    recording = speech.joined(speech.prompts(seed=1), 3600).audio
    medians: dict[str, list[float]] = {"without": [], "with": []}
    with Engine(args.model, device="cpu") as engine:

        def call(audio: np.ndarray) -> None:
            engine.submit(audio, Options(language="en")).result()

        for _ in range(args.rounds):
            for name in ("without", "with"):
                hour = _admitted(engine, recording) if name == "with" else None
                taken, _ = _offer([item.audio for item in items], call, len(items))
                medians[name].append(statistics.median(taken))
                if hour is not None:
                    hour.cancel()
                    time.sleep(2)  # the windows of the hour that were under way
    without, among = (statistics.median(medians[name]) for name in ("without", "with"))
    rows = [
        {"one_hour_recording": name, "median_s": round(statistics.median(values), 3)}
        for name, values in medians.items()
    ]
    delay = among / without - 1
    rows.append({"one_hour_recording": "delay", "median_s": round(delay, 3)})
    return rows, [f"short messages delayed by {delay:.0%}, at most 25 %"] if delay > 0.25 else []


def _admitted(engine: Engine, audio: np.ndarray) -> Any:
    """Submit a message and wait until its first window is done, so that the others are in the engine."""
    begun = threading.Event()
    future = engine.submit(audio, Options(language="en"), lambda *_: begun.set())
    begun.wait()
    return future


def _offer(audios: list[np.ndarray], call: Any, in_flight: int) -> tuple[list[float], float]:
    """Keep so many messages in flight; return the seconds each took and the wall time."""

    def timed(audio: np.ndarray) -> float:
        started = time.perf_counter()
        call(audio)
        return time.perf_counter() - started

    started = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as clients:
        return list(clients.map(timed, audios)), time.perf_counter() - started


def _spread(values: list[float]) -> dict[str, float]:
    return {"p50_s": round(float(np.percentile(values, 50)), 3), "p95_s": round(float(np.percentile(values, 95)), 3)}


def _bare(word: str) -> str:
    return re.sub(r"\W", "", word.lower())


def table(rows: Rows) -> str:
    """Return the rows as a Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(column, "")) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


DEFAULT_PROMPTS = 100
SECTIONS = {section.__name__: section for section in (speed, accuracy, times, latency, long, load, fair)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--model", default="bundled:tiny.en")
    parser.add_argument("--prompts", type=int, default=DEFAULT_PROMPTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--device", choices=rivals.COMPUTE_TYPES, default="cpu", help="of `load` (cpu)")
    parser.add_argument("--detect", action="store_true", help="have the language detected")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows, missed = SECTIONS[args.section](args)
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    name = f"engine-{args.section}-{args.model.removeprefix('bundled:')}{'-detect' if args.detect else ''}"
    name += "-cuda" if args.device == "cuda" else ""
    record = {
        "section": args.section,
        "options": vars(args),
        "machine": {"cores": available_cores(), "processor": processor()},
        "rows": rows,
        "missed": missed,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{args.section} {args.model}: " + (f"MISSED: {'; '.join(missed)}" if missed else "all floors held"))
    return 1 if missed else 0


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    sys.exit(main())
