"""The commands that need Redis alone, as an operator types them: what they print, and their exit codes."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from live import audio, jobs, store

from config.environment import STATE
from voicemill import Client, __version__, _cli
from voicemill._cli import completion
from voicemill.errors import ErrorCode, JobError
from voicemill.options import TABLE, Options

CLONE = STATE.parent
NOBODY = "redis://127.0.0.1:1/0"
SOURCE = "https://example.com/voice.ogg"


def run(*arguments, cwd=CLONE, **variables):
    command = [sys.executable, "-m", "voicemill", *map(str, arguments)]
    environment = os.environ | variables
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def voicemill(redis_url, capsys):
    """Run `voicemill …` in this process; return its exit code, standard output and standard error."""

    def call(*arguments):
        code = _cli.main(list(map(str, arguments)))
        return (code, *capsys.readouterr())

    return call


def failed(job_id):
    jobs.create(job_id, SOURCE, Options())
    jobs.fail(job_id, "decode", JobError(ErrorCode.UNDECODABLE, "not audio"))


def test_submit_sends_each_option_that_a_job_has(voicemill):
    texts = {"language": "en", "task": "translate", "prompt": "Kim", "hotwords": "Seoul"}
    texts["callback_url"] = "https://example.com/hook"
    words = [word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text)]
    words += ["--stream", "0", "--dedupe", "--word-timestamps", "--no-enrich", "--metadata", '{"chat": [42]}']

    code, out, _ = voicemill("submit", SOURCE, *words, "--format", "json")

    record = json.loads(out)
    assert code == 0
    rest = {"stream": 0, "dedupe": True, "word_timestamps": True, "enrich": False}
    assert record["options"] == texts | rest
    assert record["metadata"] == {"chat": [42]}
    assert {*record["options"], "metadata"} == set(TABLE), "an option without an argument"


def test_submit_prints_the_id_alone_and_leaves_the_options_at_their_defaults(voicemill):
    code, out, err = voicemill("submit", SOURCE)

    assert code == 0
    assert jobs.get(out.removesuffix("\n")).options == Options()
    assert "No live worker consumes the decode stage" in err or not err  # it is said once in a while


def test_a_local_file_is_uploaded_and_its_name_kept(voicemill, tmp_path):
    (tmp_path / "monday.ogg").write_bytes(b"OggS")

    _, out, _ = voicemill("submit", "--upload", tmp_path / "monday.ogg", "--metadata", '{"chat": 1}')

    job = jobs.get(out.strip())
    assert job.metadata == {"filename": "monday.ogg", "chat": 1}
    assert b"".join(audio.read_upload(job.source)) == b"OggS"


def test_nothing_is_left_of_a_local_file_that_was_not_sent(voicemill, tmp_path):
    (tmp_path / "voice.ogg").write_bytes(b"OggS")

    code, _, err = voicemill("submit", "--upload", tmp_path / "voice.ogg", "--language", "klingon")

    assert (code, "not sent: invalid_options: language is 'klingon'" in err) == (2, True)
    assert not store.redis.keys("{voicemill}:upload:*")


def test_jobs_are_listed_newest_first_page_by_page(voicemill):
    for number in range(5):
        jobs.create(f"j{number}", SOURCE, Options(), created_at=1000.0 + number)
    jobs.cancel("j1")

    code, out, err = voicemill("list", "--limit", 2)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["id", "j4", "j3"]
    assert err.startswith("There may be more: voicemill list --limit ")
    assert err.endswith(" --before j3\n")
    _, out, err = voicemill("list", "--limit", 9, "--before", "j3", "--json")
    assert [job["id"] for job in json.loads(out)] == ["j2", "j1", "j0"]
    assert err == ""
    _, out, _ = voicemill("list", "--status", "cancelled")
    assert [line.split()[0] for line in out.splitlines()] == ["id", "j1"]
    assert voicemill("list", "--status", "done")[1] == "no jobs\n"
    assert voicemill("list", "--before", "nobody")[0] == 4


def test_results_cancellations_and_deletions_have_exit_codes(voicemill):
    failed("bad")
    jobs.create("waits", SOURCE, Options())

    code, out, err = voicemill("result", "bad")
    assert (code, out) == (1, "")
    assert err.startswith("undecodable in decode: not audio. ")
    assert voicemill("result", "waits", "--wait", 0.01)[0] == 5
    assert voicemill("cancel", "waits")[0] == 0
    assert voicemill("cancel", "waits") == (1, "", "waits had ended already: cancelled\n")
    assert voicemill("delete", "waits")[0] == 0
    assert voicemill("result", "waits")[0] == 4


def test_the_status_without_workers_is_exit_code_1(voicemill):
    code, out, _ = voicemill("status", "--json")

    assert (code, json.loads(out)["unattended"]) == (1, ["decode", "transcribe", "enrich"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit"], 2, "required"),
        (["submit", SOURCE, "--language", "klingon"], 2, "language is 'klingon'"),
        (["submit", SOURCE, "--task", "sing"], 2, "invalid choice"),
        (["submit", SOURCE, "--metadata", "{chat: 42}"], 2, "must be JSON"),
        (["submit", SOURCE, "--callback-url", "ftp://example.com"], 2, "callback_url is 'ftp://example.com'"),
        (["submit", SOURCE, "--stream", "-1"], 2, "stream is -1"),
        (["submit", "--upload", "/nowhere/voice.ogg"], 2, "No such file"),
        (["submit", "--upload", "/tmp"], 2, "directory"),
        (["submit", SOURCE, "--wait", "--timeout", "0.01"], 5, "still"),
        (["submit", SOURCE, "--wait", "--timeout", "-1"], 2, "'-1' is not a number of at least 0"),
        (["submit", SOURCE, "--timeout", "1"], 2, "--timeout needs --wait"),
        (["result", "nobody", "--wait", "nan"], 2, "'nan' is not a number of at least 0"),
        (["dead", "list", "--older", "soon"], 2, "'soon' is not a number of at least 0"),
        (["dead", "list", "--newer", "-2"], 2, "'-2' is not a number of at least 0"),
        (["list", "--limit", "0"], 2, "not a whole number of at least 1"),
        (["dead", "list", "--code", "undecodeable"], 2, "did you mean undecodable"),
        (["dead", "retry"], 2, "add --all"),
        (["result"], 2, "required"),
        (["frobnicate"], 2, "invalid choice"),
        (["result", "nobody"], 4, "no job 'nobody'"),
        (["cancel", "nobody"], 4, "no job 'nobody'"),
        (["delete", "nobody"], 4, "no job 'nobody'"),
    ],
)
def test_each_failure_has_its_exit_code_and_says_why(redis_url, arguments, code, said):
    ran = run(*arguments, REDIS_URL=redis_url)

    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "arguments", [["submit", SOURCE], ["submit", "--upload", "README.md"], ["result", "x"], ["list"], ["dead", "list"]]
)
def test_an_unreachable_redis_is_exit_code_3(arguments):
    ran = run(*arguments, REDIS_URL=NOBODY)

    assert ran.returncode == 3, ran.stderr
    assert "127.0.0.1:1" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("url", ["localhost", "redis://h:hunter2/0"])
def test_an_invalid_address_of_redis_is_exit_code_2_and_its_password_is_not_printed(url):
    for command in (["submit", SOURCE], ["status"]):
        ran = run(*command, REDIS_URL=url)

        assert ran.returncode == 2, ran.stderr
        assert "REDIS_URL must be redis://" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert "hunter2" not in ran.stderr


@pytest.mark.parametrize(
    ("variable", "value", "code", "said"),
    [
        ("MAX_QUEUED", "many", 2, "MAX_QUEUED is 'many'"),
        ("RESULT_TTL", "inf", 2, "RESULT_TTL is 'inf'"),
        ("HANDOFF_TTL", "0", 2, "HANDOFF_TTL is '0'"),
        ("MAX_SOURCE_BYTES", "10", 1, "not sent: source_too_large"),
        ("HANDOFF_KEY", "bad", 1, "HANDOFF_KEY"),
    ],
)
def test_what_the_senders_own_settings_forbid_is_said_in_one_line(redis_url, variable, value, code, said):
    ran = run("submit", "--upload", "README.md", REDIS_URL=redis_url, **{variable: value})

    assert ran.returncode == code, ran.stderr
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["dead", "list"], ["list"]])
def test_a_full_disk_is_one_line_and_exit_code_1(redis_url, command):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ran = subprocess.run(
            [sys.executable, "-m", "voicemill", *command],
            cwd=CLONE,
            env=os.environ | {"REDIS_URL": redis_url},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    assert (ran.returncode, ran.stderr) == (1, "The output: No space left on device\n")


def test_python_m_pipeline_is_the_same_command():
    command = [sys.executable, "-m", "pipeline", "--version"]
    ran = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, timeout=60)

    assert ran.stdout == f"voicemill {__version__}\n"


def test_a_dotenv_of_the_clone_names_the_redis(redis_url, tmp_path):
    for name in ("voicemill", "cli", "config"):
        shutil.copytree(CLONE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CLONE / "Procfile", tmp_path)
    (tmp_path / ".env").write_text(f"REDIS_URL={redis_url}\n")
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    command = [sys.executable, "-m", "voicemill", "list"]

    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stdout) == (0, "no jobs\n")
    (tmp_path / ".env").write_bytes(b"REDIS_URL=\xff\n")
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, "line 1 is not UTF-8" in ran.stderr) == (2, True)


def test_two_clients_of_two_redis_servers_work_in_one_process(redis_url, tmp_path):
    from cli.embedded import valkey

    with valkey(tmp_path, durable=False) as other, Client(redis_url) as first, Client(other) as second:
        job = first.send(SOURCE, language="ko")
        another = second.send(SOURCE)

        assert [found.id for found in first.list()] == [job.id]
        assert [found.id for found in second.list()] == [another.id]
        assert first.status().stages["decode"].depth.waiting == second.status().stages["decode"].depth.waiting == 1


def completed(script, *words):
    """Return what bash completes the last of these words to."""
    program = f"""{script}
COMP_WORDS=({" ".join(repr(word) for word in words)})
COMP_CWORD={len(words) - 1}
_voicemill
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    ran = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert ran.stderr == ""
    return ran.stdout.split()


def test_bash_completes_commands_options_and_values(voicemill):
    script = voicemill("completion", "bash")[1]

    assert completed(script, "voicemill", "s") == ["submit", "status", "settings"]
    assert "--no-enrich" in completed(script, "voicemill", "submit", "--")
    assert completed(script, "voicemill", "submit", "--task", "") == ["transcribe", "translate"]
    assert completed(script, "voicemill", "result", "--format", "s") == ["srt"]
    assert completed(script, "voicemill", "dead", "r") == ["retry"]
    assert completed(script, "voicemill", "webhook", "t") == ["test"]
    assert completed(script, "voicemill", "submit", "--upload", "") == []  # files, by the shell's default


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_knows_every_command_and_option(shell):
    parsers = _cli.parsers()

    script = completion.script(shell, parsers, {name: command.summary for name, command in _cli.COMMANDS.items()})

    for name, parser in parsers.items():
        assert name in script
        for option in completion._options(parser):
            for word in option.names:
                assert (f"-l {word[2:]} " if shell == "fish" else word) in script
