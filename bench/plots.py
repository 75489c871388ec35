"""Draws the documentation's plots and tables from the figures in bench/results/, so that no figure is typed by hand.

    python bench/plots.py

Writes docs/plots/*.svg and a page part docs/plots/*.md for each. Where figures are missing the plot is left out, and
its page part says which command measures them. The exit code is 0: what is missing is said, not failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {"svg.hashsalt": "voicemill", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}

from matplotlib import pyplot as plt  # noqa: E402 - the back end is chosen before

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PLOTS = ROOT / "docs" / "plots"
OURS, OTHERS, INK = "#00897b", "#8d8d8d", "#777777"  # readable on white and on black
NAMES = {
    "as it comes": "faster-whisper as it comes",
    "tuned: batched pipeline, a worker a core": "its batched pipeline, a worker a core",
    "tuned: a worker a core, beam 1": "a worker a core, beam 1",
    "batched pipeline": "faster-whisper's batched pipeline",
    "voicemill": "Voicemill",
}
Rows = list[dict[str, Any]]


def speed(record: dict[str, Any], axes: Any) -> str:
    """Throughput of a backlog of short messages."""
    rows = record["rows"]
    bars(axes, rows, "audio_seconds_per_second", "seconds of speech transcribed a second")
    return table(
        ["way", "seconds", "audio seconds a second", "times slower", "WER"],
        [[_way(row), row["seconds"], row["audio_seconds_per_second"], row["times_slower"], row["wer"]] for row in rows],
    ) + _conditions(record)


def latency(record: dict[str, Any], axes: Any) -> str:
    """Latency of one message in an idle engine."""
    rows = record["rows"]
    bars(axes, rows, "p50_s", f"seconds for one message of {rows[0]['message_s']} s, median")
    return table(["way", "p50 (s)", "p95 (s)"], [[_way(row), row["p50_s"], row["p95_s"]] for row in rows])


def accuracy(record: dict[str, Any], axes: Any) -> str:
    """Word error rate on all usable prompts."""
    *rows, difference = record["rows"]
    bars(axes, rows, "wer", "word error rate")
    interval = f"Difference {difference['wer']}, 95 % interval {difference['low']} to {difference['high']}."
    cells = [[_way(row), row["prompts"], row["words"], row["wer"]] for row in rows]
    return table(["way", "prompts", "words", "WER"], cells) + f"\n{interval}\n"


def long(record: dict[str, Any], axes: Any) -> str:
    """One long recording."""
    rows = record["rows"]
    bars(axes, rows, "seconds", f"seconds for a recording of {rows[0]['minutes']:g} minutes")
    return table(["way", "seconds", "WER"], [[_way(row), row["seconds"], row["wer"]] for row in rows])


def load(record: dict[str, Any], axes: Any) -> str:
    """Latency and throughput with 1 to 32 messages in flight."""
    rows = record["rows"]
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        colour = OURS if way == "voicemill" else OTHERS
        axes.plot(
            [row["messages_per_s"] for row in mine],
            [row["p95_s"] for row in mine],
            "o-",
            color=colour,
            label=NAMES.get(way, way),
        )
    axes.set(xlabel="messages a second", ylabel="95th percentile of latency (s)", ylim=(0, None))
    axes.legend(frameon=False, labelcolor=INK)
    return table(
        ["in flight", "way", "messages a second", "p50 (s)", "p95 (s)"],
        [[row["in_flight"], _way(row), row["messages_per_s"], row["p50_s"], row["p95_s"]] for row in rows],
    )


def fair(record: dict[str, Any], axes: Any) -> str:
    """Short messages with and without an hour's recording among them."""
    *rows, delay = record["rows"]
    axes.barh([f"{row['one_hour_recording']} an hour's recording" for row in rows], [r["median_s"] for r in rows])
    for bar, colour in zip(axes.patches, (OTHERS, OURS), strict=True):
        bar.set_color(colour)
    axes.set_xlabel("seconds for a short message among 100, median")
    cells = [[row["one_hour_recording"], row["median_s"]] for row in rows]
    return table(["an hour's recording", "median (s)"], cells) + f"\nDelay {delay['median_s']:.1%}.\n"


def times(record: dict[str, Any], _axes: Any) -> str:
    """How far times are from faster-whisper's; a table says it all."""
    rows = record["rows"]
    return table(
        ["what", "compared", "median (s)", "p95 (s)"],
        [[row["what"], row["compared"], row["median_s"], row["p95_s"]] for row in rows],
    )


def guard(record: dict[str, Any], _axes: Any) -> str:
    """Attacks on the short look; a table says it all."""
    rows = record["rows"]
    return table(
        ["attack", "prompts", "loops", "sentences lost", "WER", "WER of the full window"],
        [
            [row["attack"], row["prompts"], row["loops"], row["lost"], row.get("wer", ""), row.get("wer_full", "")]
            for row in rows
        ],
    )


def hops(record: dict[str, Any], axes: Any) -> str:
    """What the queue costs."""
    names = {"voicemill": "Voicemill's broker", "dramatiq": "Dramatiq's own"}
    rows = [{"way": way} | record[way] for way in names]
    axes.barh([names[row["way"]] for row in rows][::-1], [row["p50"] for row in rows][::-1], color=[OTHERS, OURS])
    axes.set_xlabel("milliseconds for three hops in an idle system, median")
    return table(
        ["broker", "three hops p50 (ms)", "p95 (ms)", "messages a second, backlog", "idle commands a second a process"],
        [
            [
                names[row["way"]],
                f"{row['p50']:.1f}",
                f"{row['p95']:.1f}",
                f"{row['throughput']:.0f}",
                f"{row['idle']:.1f}",
            ]
            for row in rows
        ],
    )


def decode(record: dict[str, Any], _axes: Any) -> str:
    """Decoding beside the bare ffmpeg command; a table says it all."""
    rows = record["rows"]
    names = ("message", "ffmpeg_s", "decode_s", "times", "floor", "rounds")
    return table(
        ["message", "bare ffmpeg (s)", "decode (s)", "times", "at most", "rounds"],
        [[row[name] for name in names] for row in rows],
    )


def decode_memory(record: dict[str, Any], _axes: Any) -> str:
    """Peak memory of a decode worker; a table says it all."""
    rows = record["rows"]
    names = ("message", "worker_mb", "child_mb", "together_mb", "pss_mb")
    return table(
        ["message", "worker (MB)", "largest child (MB)", "together (MB)", "PSS seen (MB)"],
        [[row[name] for name in names] for row in rows],
    )


def loudness(record: dict[str, Any], _axes: Any) -> str:
    """What raising quiet voices does; a table says it all."""
    rows = [
        [
            row["attenuation_db"],
            f"{row['wer']:.3f}",
            f"{row['wer_normalised']:.3f}",
            "{:+.3f} to {:+.3f}".format(*row["interval"]),
        ]
        for row in record["rows"]
    ]
    columns = ["attenuated by (dB)", "word error rate", "with `NORMALIZE_LOUDNESS`", "95 % interval of the difference"]
    return table(columns, rows) + f"\n{record['prompts']} prompts, {record['model']}.\n"


def http_api(record: dict[str, Any], _axes: Any) -> str:
    """What the HTTP API costs under load, as a table."""
    own, memory = record["own_ms"], record["memory_mib"]
    rows = [
        ["clients at a time", record["clients"]],
        ["seconds", f"{record['seconds']:g}"],
        ["transcripts", record["transcripts"]],
        ["the server's own time, p50, p95, p99 (ms)", f"{own['p50']}, {own['p95']}, {own['p99']}"],
        ["memory after a quarter, at the end (MiB)", f"{memory[len(memory) // 4]}, {memory[-1]}"],
        ["floors missed", "; ".join(record["misses"]) or "none"],
    ]
    return table(["", ""], rows)


def sizes(record: dict[str, Any], _axes: Any) -> str:
    """Recordings of every length through OpenAI's client; a table says it all."""
    cells = [
        [row["audio_s"], row["took_s"], row["wer"] or "", "yes" if row["kept"] else "no"] for row in record["rows"]
    ]
    note = f"\nModel {record['model']}, {record['cores']} cores.\n"
    return table(["recording (s)", "answered after (s)", "word error rate", "came back whole"], cells) + note


def receivers(record: dict[str, Any], _axes: Any) -> str:
    """Webhooks to receivers in trouble; a table says it all."""
    rows = [
        ["minutes, jobs", f"{record['minutes']:g}, {record['jobs']}"],
        ["events delivered", record["counts"]["delivered"]],
        ["to a healthy receiver, p50, p99 (s)", f"{record['healthy_p50_s']}, {record['healthy_p99_s']}"],
        ["all delivered so long after the last job (s)", record["all_delivered_after_last_job_s"]],
        ["requests to loopback by a redirect", record["to_loopback_by_redirect"]],
    ]
    return table(["", ""], rows)


def redis_cost(record: dict[str, Any], _axes: Any) -> str:
    """What Voicemill asks of Redis; a table says it all."""
    idle, job = record["idle_commands_a_second"], record["commands_a_job"]
    rows = [
        [name, idle.get(name, ""), job.get(name, "")]
        for name in ("backend", "decode", "transcribe", "enrich", "webhook")
    ]
    rows.append(["in all", f"{record['idle_commands_a_day']:,} a day", record["commands_a_job_in_all"]])
    return table(["who", "idle, commands a second", "commands a job"], rows)


def bars(axes: Any, rows: Rows, key: str, label: str) -> None:
    """Draw a bar a row, ours on top, each with its figure."""
    found = axes.barh([_way(row) for row in rows][::-1], [row[key] for row in rows][::-1])
    for bar, row in zip(found, rows[::-1], strict=True):
        bar.set_color(OURS if row["way"] == "voicemill" else OTHERS)
    axes.bar_label(found, padding=3, color=INK)
    axes.set_xlabel(label)
    axes.margins(x=0.12)


def table(columns: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *[[str(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


ENGINE = {section.__name__: section for section in (speed, accuracy, latency, times, long, load, fair, guard)}
DRAWN = {"speed", "accuracy", "latency", "long", "load", "fair", "hops"}
PARTS: dict[str, tuple[Callable[[dict[str, Any], Any], str], str, str]] = {  # name: how, what, the command
    "hops": (hops, "Time of three hops through the queue", "python bench/hops.py"),
    "decode": (decode, "Decoding beside the bare ffmpeg command", "python bench/decode.py"),
    "decode-memory": (decode_memory, "Peak memory of a decode worker", "python bench/decode_memory.py"),
    "web": (http_api, "The HTTP API under load", "python bench/web_load.py"),
    "loudness": (loudness, "What NORMALIZE_LOUDNESS does for whispered messages", "python bench/decode_loudness.py"),
    "web-sizes": (sizes, "Recordings of every length through OpenAI's client", "python bench/web_sizes.py"),
    "redis-cost": (redis_cost, "What Voicemill asks of Redis", "python bench/redis_cost.py"),
    "webhook": (receivers, "Webhooks to receivers in trouble", "python bench/webhook.py"),
}
MEASURED = (
    ("tiny.en", tuple(ENGINE), ""),
    ("base", ("speed", "accuracy", "guard"), ""),
    ("base", ("speed", "accuracy"), "detect"),
)
for model, sections, detect in MEASURED:
    for name in sections:
        how = ENGINE[name]
        command = "python bench/engine_guard.py" if name == "guard" else f"python bench/engine.py {name}"
        command += f" --model bundled:{model}" + (" --detect" if detect else "")
        title = (how.__doc__ or "").rstrip(".").partition(";")[0] + (", language detected" if detect else "")
        PARTS["-".join(filter(None, ("engine", name, model, detect)))] = (how, f"{title}, model {model}", command)


def main() -> int:
    PLOTS.mkdir(parents=True, exist_ok=True)
    for name, (how, title, command) in PARTS.items():
        file, picture, part = RESULTS / f"{name}.json", PLOTS / f"{name}.svg", PLOTS / f"{name}.md"
        picture.unlink(missing_ok=True)
        if not file.is_file():
            part.write_text(f"Not measured yet: `{command}` does.\n", encoding="utf-8")
            print(f"{name}: left out, since {file.relative_to(ROOT)} is not there; `{command}` measures it")
            continue
        figure, axes = plt.subplots(figsize=(7.5, 4 if name.startswith("engine-load") else 2.4))
        _plain(figure, axes)
        text = how(json.loads(file.read_text(encoding="utf-8")), axes)
        if name.removeprefix("engine-").partition("-")[0] in DRAWN:
            figure.savefig(picture, metadata={"Date": None}, transparent=True, bbox_inches="tight")
            text = f"![{title}; the table below has the figures](plots/{picture.name})\n\n{text}"
        plt.close(figure)
        part.write_text(text, encoding="utf-8")
    print(f"{len(list(PLOTS.glob('*.svg')))} plots in {PLOTS.relative_to(ROOT)}/")
    return 0


def _plain(figure: Any, axes: Any) -> None:
    """Leave out what tells nothing, and colour the rest so that it can be read on white and on black."""
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def _way(row: dict[str, Any]) -> str:
    return NAMES.get(row["way"], row["way"])


def _conditions(record: dict[str, Any]) -> str:
    machine, options = record["machine"], record["options"]
    return (
        f"\n{options['prompts']} messages, medians of {options['rounds']} rounds, "
        f"{machine['cores']} cores ({machine['processor']}), int8 on the CPU.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
