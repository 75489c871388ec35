"""Log lines, as they come out of a real process."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from config.logging import configure
configure("debug", {form!r})
structlog.contextvars.bind_contextvars(job="j1", stage="decode")
url = "https://user:hunter2@host/v.ogg?sig=hunter2"
structlog.get_logger("x").info("Fetched", url=url, api_key="hunter2", input_tokens=3)
logging.getLogger("dramatiq").warning("Message %s was skipped", "decode('https://h/v.ogg?sig=hunter2', x=1)")
from dramatiq import Message
sent = Message("decode", "decode", ("v.ogg",), {{"metadata": "hunter2"}}, {{}}, message_id="id-of-the-message")
logging.getLogger("dramatiq").info("Failed to process message %s with expected exception %s.", sent, "JobError")
transcript = "the words of the message"
try:
    raise ValueError("redis://:hunter2@h:1 is down")
except ValueError:
    logging.getLogger("dramatiq").exception("Failed")
"""


def lines(form):
    program = [sys.executable, "-c", PROGRAM.format(form=form)]
    return subprocess.run(program, capture_output=True, text=True, check=True).stderr


def test_json_lines_carry_the_job_through_dramatiqs_own_lines_too():
    records = [json.loads(line) for line in lines("json").splitlines()]

    assert records[0]["event"] == "Fetched"
    assert all(record["job"] == "j1" and record["stage"] == "decode" for record in records)
    assert records[0]["input_tokens"] == 3
    assert "ValueError" in records[3]["exception"]


def test_a_message_is_named_by_its_id_and_not_by_what_its_sender_wrote():
    failed = json.loads(lines("json").splitlines()[2])

    assert failed["event"] == "Failed to process message decode id-of-the-message with expected exception JobError."


def test_no_form_shows_a_secret_or_the_variables_of_a_failed_function():
    for form in ("json", "console"):
        text = lines(form)
        assert "hunter2" not in text
        assert "the words of the message" not in text.replace('transcript = "the words of the message"', "")
        assert "https://********@host/v.ogg?…" in text


def test_without_a_terminal_auto_means_json():
    assert lines("auto").startswith("{")
