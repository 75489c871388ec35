"""How messages are cut into windows, and windows in two."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pipeline.transcribe import window
from pipeline.transcribe.window import Piece, Window, cut, halves, speech

RATE = 16_000


def said(*stretches: tuple[float, float], longest: float = 20.0) -> list[Window]:
    """Cut a message with speech at these seconds; its samples count up, so that each shows its place."""

    def detect(_: np.ndarray) -> list[tuple[int, int]]:
        return [(round(start * RATE), round(end * RATE)) for start, end in stretches]

    return cut(np.arange(round((stretches[-1][1] + 5) * RATE), dtype=np.float32), longest, detect)


def test_stretches_share_a_window_until_it_is_full():
    first, second = said((1, 8), (9, 17), (18, 25))
    assert (first.speech, second.speech) == (((1, 8), (9, 17)), ((18, 25),))
    assert all(each.duration <= 20 for each in (first, second))


def test_the_margins_count_and_of_a_long_pause_only_what_is_kept():
    assert len(said((1, 11), (11.2, 20.8), longest=20)) == 2
    assert len(said((1, 3), (13, 15), longest=8)) == 1


def test_of_a_long_pause_only_the_edges_are_kept_and_times_stay_the_message_s():
    [only] = said((1, 3), (13, 15))
    assert only.duration == pytest.approx(2 * (2 + 2 * window.MARGIN))
    assert only.clock(2 + 3 * window.MARGIN) == pytest.approx(13)
    assert only.clock(60) == pytest.approx(15 + window.MARGIN)


def test_windows_never_share_a_sample():
    windows = said(*((at, at + 9.95) for at in range(0, 90, 10)))
    assert len(windows) > 3
    assert all(one.audio[-1] < two.audio[0] for one, two in pairwise(windows))


def test_a_window_is_halved_at_the_pause_nearest_its_middle():
    [whole] = said((1, 3), (3.5, 8), (8.5, 9), longest=30)
    first, second = halves(whole)
    assert (first.speech, second.speech) == (((1, 3),), ((3.5, 8), (8.5, 9)))
    assert np.array_equal(np.concatenate([first.audio, second.audio]), whole.audio)
    for half in (first, second):
        assert half.audio[RATE // 2] == pytest.approx(half.clock(0.5) * RATE)


def test_a_window_is_halved_where_a_long_pause_was_taken_out():
    [whole] = said((1, 5), (15, 19), longest=30)
    first, second = halves(whole)
    assert (first.speech, second.speech) == (((1, 5),), ((15, 19),))
    assert second.clock(0) * RATE == second.audio[0]
    assert second.pieces == (Piece(0.0, 15 - window.MARGIN, 19 + window.MARGIN),)


def test_speech_without_a_pause_is_not_halved():
    [whole] = said((1, 19))
    assert halves(whole) is None


def test_both_halves_are_of_the_window_s_channel():
    [whole] = said((1, 3), (3.5, 8))
    assert [half.channel for half in halves(replace(whole, channel=1)) or ()] == [1, 1]


def test_speech_over_the_border_of_two_portions_is_one_stretch():
    def loud(portion):
        edges = np.flatnonzero(np.diff(portion != 0, prepend=False, append=False))
        return [(start, end) for start, end in edges.reshape(-1, 2)]

    audio = np.zeros(35 * RATE, np.float32)
    for start, end in ((1, 2), (8, 13), (17, 34)):
        audio[start * RATE : end * RATE] = 0.5
    assert [(start, end) for start, end in speech(audio, loud, 10 * RATE)] == [(1, 2), (8, 13), (17, 27), (27, 34)]


def test_speech_is_found_without_telemetry_to_microsoft():
    program = """
import os, sys
import numpy
from pipeline.transcribe import backends
from pipeline.transcribe.window import cut
class Watch:
    def find_spec(name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch)
cut(numpy.zeros(16_000, numpy.float32), 20.0, backends.create("bundled:tiny.en").voice_detector())
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
