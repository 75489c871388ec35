"""`demo`, as a new user runs it: it starts and stops everything by itself."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hearing import SAMPLE, chosen_arithmetic, word_error_rate
from processes import children, end

from config.environment import STATE

CLONE = STATE.parent


@pytest.fixture
def demo(tmp_path):
    """Start the demo with a temporary folder of its own, so that what it leaves behind can be seen."""
    started = []

    def start(*arguments, **variables):
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= chosen_arithmetic()
        environment |= {"TMPDIR": str(tmp_path), "WHISPER_DEVICE": "cpu", "WHISPER_CPU_REPLICAS": "1"} | variables
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "demo", *map(str, arguments)],
            cwd=CLONE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.stdout.close()
        process.stderr.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def test_the_demo_shows_the_words_the_device_and_where_the_time_went(demo, tmp_path):
    process = demo(WHISPER_CPU_REPLICAS="0")  # as many as are fastest here

    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, err
    assert word_error_rate(" ".join(re.findall(r"\d → +\d+\.\d\d  (.+)", out)), SAMPLE) < 0.3
    assert re.search(r"Language +en", out)
    assert "no GEMINI_API_KEY" in out
    assert re.search(r"bundled:tiny.en on cpu, int8", out)
    for stage in ("decode", "transcribe", "enrich"):
        assert re.search(rf"{stage} +\d+\.\d\d", out)
    for status in ("queued", "decoding", "transcribing", "done"):
        assert status in err
    assert not list(tmp_path.iterdir())


def test_a_bad_file_is_one_clear_line_and_exit_code_1(demo, tmp_path):
    letter = tmp_path / "letter.ogg"
    letter.write_text("not a recording")
    process = demo(letter)

    _, err = process.communicate(timeout=120)

    assert process.returncode == 1
    assert "undecodable in decode" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_stage_that_ends_is_heard_to_the_end_and_alone(demo):
    process = demo(WHISPER_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")

    _, err = process.communicate(timeout=120)

    said = err.partition("the transcribe stage ended with exit code 1; its last lines:\n")[2]
    assert process.returncode == 1
    assert "the GPU is not fit to work, and WHISPER_DEVICE=cuda." in said
    assert "stage=decode" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/nowhere.ogg"], "does not exist"),
        (["/tmp"], "folder"),
        (["/proc/self/mem"], "cannot be read"),
        (["--language", "xx"], "not a language"),
    ],
)
def test_what_is_no_file_or_no_language_is_told_before_anything_starts(demo, arguments, said):
    process = demo(*arguments)

    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert said in err
    assert "Traceback" not in err


def test_a_file_that_the_handoff_store_does_not_take_is_one_clear_line(demo):
    process = demo(MAX_SOURCE_BYTES="100")

    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "more than 100 bytes" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "patience"),
    [
        (signal.SIGINT, 20),
        (signal.SIGHUP, 20),  # the terminal was closed
        (signal.SIGINT, 0.2),  # again and again
        (signal.SIGTERM, 0.2),
    ],
)
def test_nothing_is_left_behind_when_it_is_interrupted(demo, tmp_path, number, patience):
    process = demo()
    for line in process.stderr:
        if "decoding" in line or "decoded" in line:
            break
    started = children(process.pid)
    assert len(started) >= 6

    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 60:
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)

    assert process.returncode not in (0, None)
    assert end(started)
    assert not list(Path(tmp_path).iterdir())


def test_an_interrupt_while_it_loads_shows_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "pipeline", "demo"], cwd=CLONE, stderr=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stderr:
            if "redis" in line:
                break

        process.send_signal(signal.SIGINT)

        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 130
