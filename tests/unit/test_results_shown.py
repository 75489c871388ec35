"""What `submit --wait` and `result` say of a job on a terminal."""

import pytest

from cli import output
from voicemill.job import Job


@pytest.mark.parametrize("form", ["txt", "srt"])
def test_a_message_without_speech_is_an_empty_transcript_and_a_line_that_says_so(capsys, form):
    job = Job("1", "done", 1.0, 2.0, "voice.ogg", {}, {}, transcript={"segments": [], "no_speech": True})

    assert output.show(job, form) == 0

    out, err = capsys.readouterr()
    assert (out, err) == ("", "no speech was found in it: the transcript is empty\n")
