"""Transcripts as people read them. FFmpeg, whose parser is not ours, reads the subtitles back."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from voicemill.transcript import LINE, LINES, Transcript

LONG = (
    "This is a rather long sentence that no screen could show at once, since it goes on and on about the meeting with "
    "the design team, which was moved to Thursday at three, and about what else has to be done until then."
)


def transcript(*segments: tuple[float, float, str], words: bool = False) -> Transcript:
    found = []
    for start, end, text in segments:
        segment: dict[str, Any] = {
            "start": start,
            "end": end,
            "text": text,
            "avg_logprob": -0.2,
            "no_speech_prob": 0.01,
        }
        if words:
            step = (end - start) / len(text.split())
            segment["words"] = [
                {"start": start + step * at, "end": start + step * (at + 1), "word": f" {word}", "probability": 0.9}
                for at, word in enumerate(text.split())
            ]
        found.append(segment)
    return Transcript.from_dict({"text": " ".join(text for *_, text in segments), "segments": found})


def reread(text: str, kind: str, tmp_path) -> str:
    (tmp_path / f"in.{kind}").write_text(text, encoding="utf-8")
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / f"in.{kind}", "-f", "srt", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_another_parser_reads_every_subtitle_back(kind, tmp_path):
    source = transcript((0.5, 2.25, "Tom & Jerry: 1 < 2 --> yes?"), (3600.0, 3605.5, "안녕하세요."), (3606, 3621, LONG))
    back = reread(source.render(kind), kind, tmp_path)
    texts = [re.sub(r"<[^>]+>", "", "\n".join(block.split("\n")[2:])) for block in back.strip().split("\n\n")]
    assert len(texts) == len(source.cues())
    assert "00:00:00,500 --> 00:00:02,250" in back
    assert "01:00:00,000 --> 01:00:05,500" in back
    assert "안녕하세요." in texts[1]
    assert " ".join(" ".join(texts[2:]).split()) == LONG


@pytest.mark.parametrize("words", [False, True])
def test_a_long_segment_becomes_subtitles_that_fit_the_screen(words):
    found = transcript((10.0, 25.0, LONG), words=words).cues()
    assert len(found) > 1
    for cue in found:
        assert len(cue.text.split("\n")) <= LINES
        assert all(len(line) <= LINE for line in cue.text.split("\n"))
    assert (found[0].start, found[-1].end) == (10.0, pytest.approx(25.0))
    assert all(one.end <= two.start + 1e-9 for one, two in pairwise(found))
    assert " ".join(" ".join(cue.text for cue in found).split()) == LONG


def test_text_without_blanks_is_wrapped_too():
    found = transcript((0, 10, "明日の会議は三時に変更になりましたのでよろしくお願いします" * 3)).cues()
    assert all(len(line) <= LINE // 2 for cue in found for line in cue.text.split("\n"))


def test_subtitles_never_overlap_nor_last_no_time():
    found = transcript((1.0, 3.0, "One."), (2.5, 2.8, "Two."), (2.9, 4.0, "Three.")).cues()
    assert [(cue.start, cue.end) for cue in found] == [(1.0, 3.0), (3.0, 3.001), (3.001, 4.0)]


def test_a_subtitle_ends_with_its_last_word_and_the_next_begins_with_its_first():
    [segment] = transcript((10.0, 25.0, LONG), words=True).segments
    words = tuple(replace(word, end=word.end - 0.1) for word in segment.words)
    source = replace(transcript((10.0, 25.0, LONG)), segments=(replace(segment, words=words),))
    ends = {f" {cue.text.split()[-1]}": cue.end for cue in source.cues()}
    assert all(end in [word.end for word in words if word.word == text] for text, end in ends.items())


def test_a_word_with_a_hyphen_is_not_broken_at_it():
    text = "Please come to the small room of our well-known neighbours."  # the line ends within the word
    assert transcript((0, 3, text)).cues()[0].text == "Please come to the small room of our\nwell-known neighbours."


def test_times_are_rounded_to_the_nearest_millisecond():
    assert "00:00:01,235 --> 00:01:00,000" in transcript((1.2347, 59.9996, "One.")).render("srt")


def test_what_webvtt_would_take_for_markup_is_escaped():
    source = transcript((0, 1, "<i> & 1 --> 2"))
    assert "&lt;i&gt; &amp; 1 --&gt; 2" in source.render("vtt")
    assert "<i> & 1 --> 2" in source.render("srt")


def test_plain_text_is_a_line_a_segment_and_json_the_record_itself():
    source = transcript((0, 1, "One."), (1, 2, "둘."))
    assert source.render("txt") == "One.\n둘.\n"
    assert json.loads(source.render("json")) == source.as_dict()
    assert "둘." in source.render("json")


def test_an_empty_transcript_renders_to_nothing_that_hurts(tmp_path):
    empty = transcript()
    assert empty.render("txt") == ""
    assert empty.render("srt") == ""
    assert empty.render("vtt").startswith("WEBVTT")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="use one of json, txt, srt, vtt"):
        transcript().render("docx")


RECORD = {
    "text": "Hello.",
    "language": "en",
    "language_probability": 0.99,
    "duration": 2.0,
    "model": "tiny.en",
    "device": "cpu",
    "compute_type": "int8",
    "segments": [
        {
            "start": 1.0,
            "end": 1.5,
            "text": "Hello.",
            "avg_logprob": -0.1,
            "no_speech_prob": 0.01,
            "words": [{"start": 1.0, "end": 1.5, "word": " Hello.", "probability": 0.9}],
            "speaker": "A",
        }
    ],
    "no_speech": False,
    "degraded": True,
    "degraded_reason": "no driver",
}


def test_a_transcript_comes_back_from_the_record_as_it_was():
    found = Transcript.from_dict(RECORD)

    assert (found.segments[0].words[0].word, found.segments[0].speaker, found.degraded) == (" Hello.", "A", "no driver")
    assert found.as_dict() == RECORD


def test_a_record_of_another_version_is_read_as_far_as_it_goes():
    found = Transcript.from_dict({"text": "Hello.", "segments": [], "mood": "good"})

    assert (found.text, found.language, found.segments, found.degraded) == ("Hello.", None, (), None)
