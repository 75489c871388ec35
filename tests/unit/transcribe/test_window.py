"""How messages are cut into windows, and windows in two."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from pipeline.transcribe import window
from pipeline.transcribe.window import Piece, Window, cut, halves

RATE = 16_000


@pytest.fixture
def said(monkeypatch):
    """Cut a message in which somebody speaks at these seconds; its samples count up, so that each tells its place."""

    def windows(*speech: tuple[float, float], longest: float = 20.0) -> list[Window]:
        monkeypatch.setattr(window, "_speech", lambda _: iter(speech))
        return cut(np.arange(round((speech[-1][1] + 5) * RATE), dtype=np.float32), longest)

    return windows


def test_stretches_share_a_window_until_it_is_full(said):
    first, second = said((1, 8), (9, 17), (18, 25))
    assert (first.speech, second.speech) == (((1, 8), (9, 17)), ((18, 25),))
    assert all(each.duration <= 20 for each in (first, second))


def test_the_margins_count_and_of_a_long_pause_only_what_is_kept(said):
    assert len(said((1, 11), (11.2, 20.8), longest=20)) == 2
    assert len(said((1, 3), (13, 15), longest=8)) == 1


def test_of_a_long_pause_only_the_edges_are_kept_and_times_stay_the_message_s(said):
    [only] = said((1, 3), (13, 15))
    assert only.duration == pytest.approx(2 * (2 + 2 * window.MARGIN))
    assert only.clock(2 + 3 * window.MARGIN) == pytest.approx(13)
    assert only.clock(60) == pytest.approx(15 + window.MARGIN)


def test_windows_never_share_a_sample(said):
    windows = said(*((at, at + 9.95) for at in range(0, 90, 10)))
    assert len(windows) > 3
    assert all(one.audio[-1] < two.audio[0] for one, two in pairwise(windows))


def test_a_window_is_halved_at_the_pause_nearest_its_middle(said):
    [whole] = said((1, 3), (3.5, 8), (8.5, 9), longest=30)
    first, second = halves(whole)
    assert (first.speech, second.speech) == (((1, 3),), ((3.5, 8), (8.5, 9)))
    assert np.array_equal(np.concatenate([first.audio, second.audio]), whole.audio)
    for half in (first, second):
        assert half.audio[RATE // 2] == pytest.approx(half.clock(0.5) * RATE)


def test_a_window_is_halved_where_a_long_pause_was_taken_out(said):
    [whole] = said((1, 5), (15, 19), longest=30)
    first, second = halves(whole)
    assert (first.speech, second.speech) == (((1, 5),), ((15, 19),))
    assert second.clock(0) * RATE == second.audio[0]
    assert second.pieces == (Piece(0.0, 15 - window.MARGIN, 19 + window.MARGIN),)


def test_who_never_pauses_is_not_cut_in_the_middle_of_a_word(said):
    [whole] = said((1, 19))
    assert halves(whole) is None


def test_who_speaks_over_the_border_of_two_portions_is_heard_as_one(monkeypatch):
    def loud(portion, _options):
        edges = np.flatnonzero(np.diff(portion != 0, prepend=False, append=False))
        return [{"start": start, "end": end} for start, end in edges.reshape(-1, 2)]

    monkeypatch.setattr(window, "_PORTION", 10 * RATE)
    monkeypatch.setattr(window, "get_speech_timestamps", loud)
    audio = np.zeros(35 * RATE, np.float32)
    for start, end in ((1, 2), (8, 13), (17, 34)):
        audio[start * RATE : end * RATE] = 0.5
    assert [(start, end) for start, end in window._speech(audio)] == [(1, 2), (8, 13), (17, 27), (27, 34)]


def test_speech_is_found_without_telling_microsoft():
    program = """
import os, sys
import numpy
from pipeline.transcribe.window import cut
class Watch:
    def find_spec(name, path=None, target=None):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch)
cut(numpy.zeros(16_000, numpy.float32), 20.0)
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
