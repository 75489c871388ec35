"""What the commands print about jobs: `submit --wait`, `result` and `list`."""

import io
from dataclasses import replace

import pytest

from voicemill._cli import listing, output, progress
from voicemill.errors import ErrorCode, JobError
from voicemill.job import Enrichment, Event, Failure, Job
from voicemill.lifecycle import STAGES
from voicemill.options import Options
from voicemill.transcript import Segment, Transcript

SILENT = Transcript("", "en", 0.9, 2.0, "tiny.en", "cpu", "int8", segments=(), no_speech=True)
SPOKEN = replace(SILENT, text="Hello.", segments=(Segment(0.0, 1.0, "Hello.", -0.1, 0.0),), no_speech=False)


def job(status="done", **fields):
    return Job("1", status, 1.0, 2.0, "voice.ogg", Options(), dict.fromkeys(STAGES), **fields)


@pytest.mark.parametrize("format", ["txt", "srt"])
def test_a_recording_without_speech_is_an_empty_transcript_and_a_remark(capsys, format):  # noqa: A002 - as the method names it
    assert output.show(job(transcript=SILENT), format) == 0

    out, err = capsys.readouterr()
    assert (out, err) == ("", "no speech was found: the transcript is empty\n")


def test_the_remarks_say_where_and_why_a_job_failed_and_what_to_do(capsys):
    error = Failure.of(JobError(ErrorCode.UNDECODABLE, "not audio\x1b[2J"), stage="decode")

    assert output.show(job("failed", error=error), "txt") == 1

    expected = "undecodable in decode: not audio [2J. FFmpeg cannot read the file. Send it in another format.\n"
    assert capsys.readouterr().err == expected


def test_an_unfinished_job_has_an_exit_code_of_its_own(capsys):
    assert output.show(job("decoding"), "txt") == 5
    assert capsys.readouterr().err == "1 is decoding, not finished\n"


def test_a_list_tells_jobs_apart_by_error_title_text_file_name_or_source():
    titled = Enrichment({"title": "회의 일정 변경", "summary": "Thursday."}, "gemini")
    jobs = [
        job("failed", error=Failure.of(JobError(ErrorCode.UNDECODABLE, "no"))),
        job(enrichment=titled, transcript=SPOKEN),
        job(transcript=SPOKEN),
        job("queued", metadata={"filename": "monday.ogg"}),
        job("queued", metadata=[1]),
    ]

    lines = listing.shown(jobs)

    assert [line.split()[-1] for line in lines] == ["what", "no", "변경", "Hello.", "monday.ogg", "voice.ogg"]
    assert listing.shown([]) == ["no jobs"]


def test_a_list_is_cut_to_the_columns_of_the_terminal_where_a_character_may_take_two():
    (line,) = listing.shown([job(enrichment=Enrichment({"title": "가" * 40}, "gemini"))], columns=60)[1:]

    assert output.width(line) <= 60
    assert line.endswith("가…")


class Stream(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


class Follower:
    """A client whose job has these events."""

    def __init__(self, *events):
        self.seen = events

    def events(self, job_id, timeout=None):
        yield from self.seen


EVENTS = (
    Event(1.0, "transcribing"),
    Event(2.0, "transcribing", {"progress": {"done": 1, "total": 3}}),
    Event(2.5, "transcribing", {"retry": {"code": "out_of_memory", "message": "full", "at": 2e9}}),
    Event(3.0, "done"),
)


def test_a_terminal_shows_one_line_with_the_progress_of_the_stage():
    stream = Stream(terminal=True)

    progress.follow(Follower(*EVENTS), "1", stream=stream)

    shown = stream.getvalue().split(progress.CLEAR)
    assert [line.split(" s  ")[-1] for line in shown[1:3]] == ["transcribing", "transcribing  1 of 3"]
    assert "out_of_memory: retried at" in shown[3]
    assert shown[-1] == ""  # the line is gone at the end


def test_a_file_gets_one_line_for_each_status():
    stream = Stream(terminal=False)

    progress.follow(Follower(*EVENTS), "1", stream=stream)

    assert [line.split()[2].rstrip(":") for line in stream.getvalue().splitlines()] == [
        "transcribing",
        "out_of_memory",
        "done",
    ]
