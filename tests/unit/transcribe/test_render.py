"""Transcripts as people read them. FFmpeg, whose parser is not ours, reads the subtitles back."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise
from typing import Any

import pytest

from pipeline.render import LINE, LINES, cues, render

LONG = (
    "This is a rather long sentence that no screen could show at once, since it goes on and on about the meeting with "
    "the design team, which was moved to Thursday at three, and about what else has to be done until then."
)


def transcript(*segments: tuple[float, float, str], words: bool = False) -> dict[str, Any]:
    found = []
    for start, end, text in segments:
        segment: dict[str, Any] = {"start": start, "end": end, "text": text}
        if words:
            step = (end - start) / len(text.split())
            segment["words"] = [
                {"start": start + step * at, "end": start + step * (at + 1), "word": f" {word}", "probability": 0.9}
                for at, word in enumerate(text.split())
            ]
        found.append(segment)
    return {"text": " ".join(text for *_, text in segments), "segments": found}


def reread(text: str, kind: str, tmp_path) -> str:
    (tmp_path / f"in.{kind}").write_text(text, encoding="utf-8")
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / f"in.{kind}", "-f", "srt", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_another_parser_reads_every_subtitle_back(kind, tmp_path):
    source = transcript((0.5, 2.25, "Tom & Jerry: 1 < 2 --> yes?"), (3600.0, 3605.5, "안녕하세요."), (3606, 3621, LONG))
    back = reread(render(source, kind), kind, tmp_path)
    texts = [re.sub(r"<[^>]+>", "", "\n".join(block.split("\n")[2:])) for block in back.strip().split("\n\n")]
    assert len(texts) == len(cues(source))
    assert "00:00:00,500 --> 00:00:02,250" in back
    assert "01:00:00,000 --> 01:00:05,500" in back
    assert "안녕하세요." in texts[1]
    assert " ".join(" ".join(texts[2:]).split()) == LONG


@pytest.mark.parametrize("words", [False, True])
def test_a_long_segment_becomes_subtitles_that_fit_the_screen(words):
    found = cues(transcript((10.0, 25.0, LONG), words=words))
    assert len(found) > 1
    for cue in found:
        assert len(cue.text.split("\n")) <= LINES
        assert all(len(line) <= LINE for line in cue.text.split("\n"))
    assert (found[0].start, found[-1].end) == (10.0, pytest.approx(25.0))
    assert all(one.end <= two.start + 1e-9 for one, two in pairwise(found))
    assert " ".join(" ".join(cue.text for cue in found).split()) == LONG


def test_text_without_blanks_is_wrapped_too():
    found = cues(transcript((0, 10, "明日の会議は三時に変更になりましたのでよろしくお願いします" * 3)))
    assert all(len(line) <= LINE // 2 for cue in found for line in cue.text.split("\n"))


def test_plain_text_is_a_line_a_segment_and_json_the_record_itself():
    source = transcript((0, 1, "One."), (1, 2, "Two."))
    assert render(source, "txt") == "One.\nTwo.\n"
    assert json.loads(render(source, "json")) == source


def test_an_empty_transcript_renders_to_nothing_that_hurts(tmp_path):
    empty = transcript()
    assert render(empty, "txt") == ""
    assert render(empty, "srt") == ""
    assert render(empty, "vtt").startswith("WEBVTT")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="takes one of json, txt, srt, vtt"):
        render(transcript(), "docx")
