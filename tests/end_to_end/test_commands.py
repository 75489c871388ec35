"""The command line against the running stages: what it prints, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from hearing import SENTENCE, word_error_rate
from voicemill.render import render

from config.environment import STATE

CLONE = STATE.parent
SAMPLE = CLONE / "samples" / "voice-message.ogg"
FREE_PORT_OF_NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def voicemill(stages, stages_redis):
    """Run `python -m pipeline …` and return the finished process."""

    def run(*arguments, **variables):
        environment = os.environ | {"REDIS_URL": stages_redis, "NO_COLOR": "1"} | variables
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
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


def test_submit_sends_each_option_that_it_has(voicemill):
    texts = {"language": "en", "task": "translate", "prompt": "Kim", "hotwords": "Seoul"}
    words = [word for name, text in texts.items() for word in (f"--{name}", text)]
    words += ["--stream", "0", "--dedupe", "--word-timestamps", "--no-enrich"]

    ran = voicemill("submit", "letter.ogg", *words, "--format", "json")

    assert ran.returncode == 0, ran.stderr
    rest = {"stream": 0, "dedupe": True, "word_timestamps": True, "enrich": False, "callback_url": None}
    assert json.loads(ran.stdout)["options"] == texts | rest


def test_a_local_file_goes_by_upload_and_its_result_comes_in_every_format(voicemill, media):
    sent = voicemill("submit", "--upload", media / "en.ogg", "--language", "en", "--metadata", '{"chat": [42]}')
    job_id = sent.stdout.strip()
    assert sent.returncode == 0, sent.stderr

    record = json.loads(voicemill("result", job_id, "--wait", 30, "--format", "json").stdout)
    assert record["metadata"] == {"chat": [42]}

    for form in ("txt", "srt", "vtt"):
        ran = voicemill("result", job_id, "--format", form)
        assert (ran.returncode, ran.stdout) == (0, render(record["transcript"], form))


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
        (["submit"], 2, "required"),
        (["submit", "en.ogg", "--language", "klingon"], 2, "language is 'klingon'"),
        (["submit", "en.ogg", "--metadata", "{chat: 42}"], 2, "takes JSON"),
        (["submit", "en.ogg", "--callback-url", "ftp://example.com"], 2, "callback_url is 'ftp://example.com'"),
        (["submit", "en.ogg", "--stream", "-1"], 2, "stream is -1"),
        (["submit", "--upload", "/nowhere/voice.ogg"], 2, "No such file"),
        (["submit", "--upload", "/tmp"], 2, "directory"),
        (["result"], 2, "required"),
        (["frobnicate"], 2, "invalid choice"),
        (["result", "nobody"], 4, "no job 'nobody'"),
        (["cancel", "nobody"], 4, "no job 'nobody'"),
        (["delete", "nobody"], 4, "no job 'nobody'"),
        (["submit", "long.ogg", "--wait", "--timeout", "0.01"], 5, "still"),
    ],
)
def test_each_failure_has_its_exit_code_and_one_clear_line(voicemill, arguments, code, said):
    ran = voicemill(*arguments)

    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "arguments", [["submit", "en.ogg"], ["submit", "--upload", "README.md"], ["result", "x"], ["cancel", "x"]]
)
def test_a_redis_out_of_reach_is_exit_code_3(voicemill, arguments):
    ran = voicemill(*arguments, REDIS_URL=FREE_PORT_OF_NOBODY)

    assert ran.returncode == 3, ran.stderr
    assert "127.0.0.1:1" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("command", [["status"], ["dead", "list"], ["settings"], ["doctor", "--only", "python"]])
def test_an_output_for_which_there_is_no_room_is_one_line_and_exit_code_1(stages, stages_redis, command):
    environment = os.environ | {"REDIS_URL": stages_redis}
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "pipeline", *command],
            cwd=CLONE,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    assert ran.returncode == 1
    assert ran.stderr.endswith("No space left on device\n")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["submit", "en.ogg"], ["status"], ["result", "abc"]])
@pytest.mark.parametrize("url", ["localhost", "redis://h:hunter2/0"])
def test_what_is_no_address_of_redis_is_exit_code_2(voicemill, command, url):
    ran = voicemill(*command, REDIS_URL=url)

    assert ran.returncode == 2, ran.stderr
    assert "REDIS_URL takes redis://" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "hunter2" not in ran.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("MAX_QUEUED", "many", 2, "MAX_QUEUED is 'many'"),
        ("RESULT_TTL", "inf", 2, "RESULT_TTL is 'inf'"),
        ("HANDOFF_TTL", "0", 2, "HANDOFF_TTL is '0'"),
        ("MAX_SOURCE_BYTES", "10", 1, "source_too_large"),
        ("HANDOFF_KEY", "bad", 1, "HANDOFF_KEY"),
    ],
)
def test_what_the_senders_own_settings_forbid_is_told_in_one_line(voicemill, variable, value, code, said):
    ran = voicemill("submit", "--upload", SAMPLE, **{variable: value})

    assert ran.returncode == code, ran.stderr
    assert ran.stderr.startswith("not sent: ")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_wrong_setting_is_named_and_is_exit_code_2(voicemill):
    ran = voicemill("settings", WHISPER_DEVICE="gpu")

    assert ran.returncode == 2
    assert "WHISPER_DEVICE is 'gpu'" in ran.stderr


def test_a_deleted_job_is_gone(voicemill):
    job_id = json.loads(voicemill("submit", "en.ogg", "--wait", "--format", "json").stdout)["id"]

    assert voicemill("delete", job_id).returncode == 0

    assert voicemill("result", job_id).returncode == 4


def test_every_command_explains_itself(voicemill):
    overview = voicemill("--help").stdout
    for command in ("up", "demo", "submit", "result", "cancel", "delete", "doctor", "settings"):
        assert command in overview
        assert voicemill(command, "--help").returncode == 0
