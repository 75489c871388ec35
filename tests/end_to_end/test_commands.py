"""The commands against the running stages: what they print, and their exit codes."""

import json
import os
import subprocess
import sys

import pytest
import redis
from hearing import SENTENCE, word_error_rate

from config.environment import STATE
from voicemill import _cli
from voicemill.transcript import Transcript

CLONE = STATE.parent


@pytest.fixture
def voicemill(stages, stages_redis):
    """Run `voicemill …` and return the finished process."""

    def run(*arguments, **variables):
        environment = os.environ | {"REDIS_URL": stages_redis, "NO_COLOR": "1"} | variables
        command = [sys.executable, "-m", "voicemill", *map(str, arguments)]
        return subprocess.run(command, cwd=CLONE, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_submit_prints_the_job_record_and_nothing_else_on_standard_output(voicemill):
    ran = voicemill("submit", "en.ogg", "--language", "en", "--wait", "--format", "json")

    job = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert job["status"] == "done"
    assert word_error_rate(job["transcript"]["text"], SENTENCE) < 0.4
    assert set(job["stages"]) == {"decode", "transcribe", "enrich"}
    assert "transcribing" in ran.stderr


def test_a_local_file_is_uploaded_and_its_result_comes_in_every_format(voicemill, media):
    sent = voicemill("submit", "--upload", media / "en.ogg", "--language", "en", "--metadata", '{"chat": [42]}')
    job_id = sent.stdout.strip()
    assert sent.returncode == 0, sent.stderr

    record = json.loads(voicemill("result", job_id, "--wait", 30, "--format", "json").stdout)
    assert record["metadata"] == {"filename": "en.ogg", "chat": [42]}

    for form in ("txt", "srt", "vtt"):
        ran = voicemill("result", job_id, "--format", form)
        assert (ran.returncode, ran.stdout) == (0, Transcript.from_dict(record["transcript"]).render(form))


@pytest.mark.parametrize(
    ("language", "variables", "code", "said"),
    [("klingon", {}, 2, "language is 'klingon'"), ("en", {"MAX_SOURCE_BYTES": "10"}, 1, "source_too_large")],
)
def test_nothing_is_left_of_a_local_file_that_was_not_sent(
    voicemill, media, stages_redis, language, variables, code, said
):
    client = redis.Redis.from_url(stages_redis)
    before = set(client.keys("{voicemill}:upload:*"))

    ran = voicemill("submit", "--upload", media / "en.ogg", "--language", language, **variables)

    assert (ran.returncode, "Traceback" in ran.stderr) == (code, False)
    assert said in ran.stderr
    assert set(client.keys("{voicemill}:upload:*")) == before
    client.close()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit", "letter.ogg", "--wait"], 1, "undecodable"),
        (["submit", "mute.mp4", "--wait"], 1, "no_audio_stream"),
        (["submit", "/etc/passwd", "--wait"], 1, "source_forbidden"),
        (["submit", "long.ogg", "--wait", "--timeout", "0.01"], 5, "still"),
    ],
)
def test_each_failure_has_its_exit_code_and_says_why(voicemill, arguments, code, said):
    ran = voicemill(*arguments)

    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", [["settings"], ["doctor", "--only", "python"]])
def test_a_full_disk_is_one_line_and_exit_code_1(stages, stages_redis, command):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess.run(
            [sys.executable, "-m", "voicemill", *command],
            cwd=CLONE,
            env=os.environ | {"REDIS_URL": stages_redis},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    assert ran.returncode == 1
    assert ran.stderr.endswith("No space left on device\n")
    assert ran.stderr.count("\n") == 1


def test_an_invalid_setting_is_named_and_is_exit_code_2(voicemill):
    ran = voicemill("settings", WHISPER_DEVICE="gpu")

    assert ran.returncode == 2
    assert "WHISPER_DEVICE is 'gpu'" in ran.stderr


def test_a_deleted_job_is_gone(voicemill):
    job_id = json.loads(voicemill("submit", "en.ogg", "--wait", "--format", "json").stdout)["id"]
    assert job_id in voicemill("list", "--status", "done").stdout

    assert voicemill("delete", job_id).returncode == 0

    assert voicemill("result", job_id).returncode == 4
    assert job_id not in voicemill("list", "--status", "done").stdout


def test_every_command_explains_itself(voicemill):
    overview = voicemill("--help").stdout
    for command in _cli.COMMANDS:
        assert command in overview
        assert voicemill(command, "--help").returncode == 0
