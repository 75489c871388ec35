"""The seam of speech backends: who may know them, how one is selected, and what the fake hears."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.transcribe import DecodingOptions, EngineError, backends
from pipeline.transcribe.backends.base import Capabilities, DecodingSettings, WindowRequest
from pipeline.transcribe.backends.fake import Fake, detect, hear, say
from pipeline.transcribe.backends.whisper import Whisper
from pipeline.transcribe.window import Piece, Window

PACKAGE = Path(backends.__file__).parents[1]
ROOT = PACKAGE.parents[1]
RATE = 16_000
LIBRARIES = ("ctranslate2", "faster_whisper", "onnxruntime", "threadpoolctl")


def imported(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nothing_but_a_backend_imports_a_speech_library_or_a_backend():
    outside = [file for file in PACKAGE.rglob("*.py") if "backends" not in file.relative_to(PACKAGE).parts]
    neutral = [PACKAGE / "backends" / name for name in ("__init__.py", "base.py", "fake.py")]
    assert len(outside) > 10
    for file in [*outside, *neutral]:
        for name in imported(file):
            assert not name.startswith(LIBRARIES), f"{file.name} imports {name}"
            inside = name.removeprefix("pipeline.transcribe.backends").strip(".")
            if inside != name:
                assert inside.split(".")[0] in {"", "base"}, f"{file.name} imports {name}"


@pytest.mark.processes
def test_an_engine_on_the_fake_backend_imports_no_speech_library_in_any_process():
    program = f"""
import os, sys
from pipeline.transcribe import Engine
from pipeline.transcribe.backends.fake import say
if __name__ == "__main__":
    with Engine("fake", device="cpu", replicas=1) as engine:
        print(engine.transcribe([say("Hello there.")])[0].text)
        maps = open(f"/proc/{{engine.slots[0].pid}}/maps").read()
    print([name for name in {LIBRARIES} if name in sys.modules or name in maps])
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-2:] == ["Hello there.", "[]"]


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("fake", Fake()),
        ("fake:languages=en+ko,delay=0.5,capacity=2", Fake(frozenset({"en", "ko"}), 0.5, 2)),
        ("bundled:tiny.en", Whisper(3, "full")),
        ("owner/name", Whisper(3, "full")),
        ("/a/folder:with-a-colon", Whisper(3, "full")),
        ("faked", Whisper(3, "full")),
    ],
)
def test_the_prefix_of_a_model_s_name_selects_its_backend(model, backend):
    assert backends.create(model, DecodingSettings(beam_size=3, encoder_window="full")) == backend


@pytest.mark.parametrize("model", ["fake:speed=3", "fake:delay=slow", "fake:capacity"])
def test_a_fake_that_cannot_be_parsed_is_refused_with_what_it_takes(model):
    with pytest.raises(EngineError, match=r"fake takes languages, delay, capacity, as in fake:delay=0\.1"):
        backends.create(model)


def test_a_model_of_one_language_is_known_as_such():
    assert Capabilities(frozenset({"ko"}), 30, 30).only_language == "ko"
    assert Capabilities(frozenset({"ko", "en"}), 30, 30).only_language is None


def request(audio, **options):
    seconds = len(audio) / RATE
    language = options.pop("window_language", None)
    return WindowRequest(
        Window(audio, (Piece(0.0, 0.0, seconds),), ((0.0, seconds),)), DecodingOptions(**options), language
    )


def run(*requests, **fields):
    return Fake(**fields).load(Path(), "cpu", "int8", 1).run(requests)


def text(result):
    return " ".join(segment.text for segment in result.segments)


def test_the_fake_hears_any_text_and_where_its_words_are():
    audio = say("Please call 김 민수 at 9:30, naïve Zoë!")
    words = list(hear(audio))
    assert " ".join(word for _, _, word in words) == "Please call 김 민수 at 9:30, naïve Zoë!"
    for start, end, word in words:
        assert end - start == pytest.approx(0.04 * len(word.encode()), abs=0.011)


def test_the_fake_hears_through_noise_and_another_volume():
    clean = say("Please call me back.")
    audio = 0.2 * clean + np.random.default_rng(0).normal(0, 0.004, len(clean)).astype(np.float32)
    assert [word for _, _, word in hear(audio)] == ["Please", "call", "me", "back."]


def test_other_sound_is_a_hum_for_every_half_second():
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    assert text(run(request(noise))[0]) == "hum hum hum hum"


def test_a_sentence_and_a_long_pause_end_a_segment():
    audio = np.concatenate([say("One. Two"), np.zeros(RATE, np.float32), say("three")])
    assert [segment.text for segment in run(request(audio))[0].segments] == ["One.", "Two", "three"]


def test_the_options_shape_the_text():
    audio = say("please call kathryn")
    results = run(
        request(audio, hotwords="Kathryn"),
        request(audio, prompt="Kathryn, Please"),
        request(audio, task="translate"),
        request(audio, word_timestamps=True),
    )
    assert [text(result) for result in results] == [
        "please call Kathryn",
        "Please call kathryn",
        "PLEASE CALL KATHRYN",
        "please call kathryn",
    ]
    assert [word.word for word in results[3].segments[0].words or ()] == [" please", " call", " kathryn"]


def test_a_tag_sets_the_language_unless_it_is_given():
    tagged, given, plain, only = (
        *run(request(say("<ko> one")), request(say("<ko> one"), window_language="de"), request(say("one"))),
        *run(request(say("one")), languages=frozenset({"ko"})),
    )
    assert [result.language for result in (tagged, given, plain, only)] == ["ko", "de", "en", "ko"]
    assert [result.language_probability for result in (tagged, given)] == [0.9, None]
    assert text(tagged) == "one"


@pytest.mark.parametrize(
    ("command", "error"), [("<memory>", MemoryError), ("<fault>", RuntimeError)], ids=["memory", "fault"]
)
def test_a_command_in_any_window_fails_the_batch(command, error):
    with pytest.raises(error):
        run(request(say("one")), request(say(f"two {command}")))


def test_a_batch_beyond_the_fake_s_capacity_is_out_of_memory():
    with pytest.raises(MemoryError, match="3 windows, and 2 fit"):
        run(*[request(say("one"))] * 3, capacity=2)


def test_the_fake_s_voice_detector_merges_words_and_splits_at_pauses_and_at_its_limit():
    audio = np.concatenate([say("One two."), np.zeros(RATE, np.float32), say("three")])
    assert len(detect(audio)) == 2
    long = detect(say("word " * 300))
    assert len(long) > 1
    assert all((end - start) / RATE <= 29.2 for start, end in long)
    steady = detect(np.full(70 * RATE, 0.5, np.float32))
    assert [(end - start) / RATE for start, end in steady] == pytest.approx([29.2, 29.2, 11.6])
